#include "json.h"

#include <nlohmann/json.hpp>

namespace sprint_export {
namespace {

constexpr int DEEPEST = 64;  // of lists and objects within each other

// Throws BundleError where a text nests deeper than any file of a bundle: the reader would take as much stack.
void check_depth(const std::string& text, const std::string& file) {
    int depth = 0;
    bool is_string = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (is_string && text[i] == '\\') ++i;
        else if (text[i] == '"') is_string = !is_string;
        else if (is_string) continue;
        else if (text[i] == '[' || text[i] == '{') ++depth;
        else if (text[i] == ']' || text[i] == '}') --depth;
        if (depth > DEEPEST) throw BundleError(file + " is nested too deep; copy the bundle again");
    }
}

}  // namespace

Document::Document(const std::string& text, const std::string& file) : file_(file) {
    check_depth(text, file);
    try {
        json_ = std::make_unique<Json>(Json::parse(text));
    } catch (const Json::exception& error) {
        throw BundleError(file + " is no JSON (" + error.what() + "); copy the bundle again");
    }
}

Document::~Document() = default;

Node Document::root() const { return {*json_, file_}; }

bool Node::is_text() const { return value_->is_string(); }

std::size_t Node::size() const { return value_->size(); }

void Node::refuse(const std::string& expected) const {
    std::string found = value_->dump(-1, ' ', true, Json::error_handler_t::replace);
    if (found.size() > 80) found = found.substr(0, 80) + "...";
    throw BundleError(where_ + " is " + found + ", expected " + expected);
}

Node Node::at(const std::string& key) const {
    if (!value_->is_object()) refuse("an object");
    const auto found = value_->find(key);
    if (found == value_->end()) throw BundleError(where_ + " has no \"" + key + "\"; export the bundle again");
    return {*found, where_ + "." + key};
}

bool Node::has(const std::string& key) const {
    if (!value_->is_object()) refuse("an object");
    const auto found = value_->find(key);
    return found != value_->end() && !found->is_null();
}

std::vector<Node> Node::items() const {
    if (!value_->is_array()) refuse("a list");
    std::vector<Node> nodes;
    nodes.reserve(value_->size());
    for (const Json& each : *value_) nodes.emplace_back(each, where_ + "[" + std::to_string(nodes.size()) + "]");
    return nodes;
}

std::vector<std::pair<std::string, Node>> Node::members() const {
    if (!value_->is_object()) refuse("an object");
    std::vector<std::pair<std::string, Node>> nodes;
    nodes.reserve(value_->size());
    for (auto each = value_->begin(); each != value_->end(); ++each)
        nodes.emplace_back(each.key(), Node(each.value(), where_ + "." + each.key()));
    return nodes;
}

std::string Node::text() const {
    if (!value_->is_string()) refuse("a text");
    return value_->get<std::string>();
}

std::int64_t Node::integer(std::int64_t least, std::int64_t most) const {
    const std::string expected = "a whole number from " + std::to_string(least) + " to " + std::to_string(most);
    if (!value_->is_number_integer()) refuse(expected);
    if (value_->is_number_unsigned() && value_->get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX)) refuse(expected);
    const auto found = value_->get<std::int64_t>();
    if (found < least || found > most) refuse(expected);
    return found;
}

double Node::number(double least, double most) const {
    const std::string expected = "a number from " + std::to_string(least) + " to " + std::to_string(most);
    if (!value_->is_number()) refuse(expected);
    const auto found = value_->get<double>();
    if (!(found >= least && found <= most)) refuse(expected);
    return found;
}

bool Node::boolean() const {
    if (!value_->is_boolean()) refuse("true or false");
    return value_->get<bool>();
}

std::string Node::choice(const std::vector<std::string>& choices) const {
    std::string listed;
    for (const std::string& each : choices) {
        if (value_->is_string() && value_->get_ref<const std::string&>() == each) return each;
        listed += (listed.empty() ? "\"" : ", \"") + each + "\"";
    }
    refuse(choices.size() == 1 ? listed : "one of " + listed);
}

std::string Node::text_or(const std::string& key, const std::string& otherwise) const {
    return has(key) ? at(key).text() : otherwise;
}

bool Node::boolean_or(const std::string& key, bool otherwise) const { return has(key) ? at(key).boolean() : otherwise; }

}  // namespace sprint_export
