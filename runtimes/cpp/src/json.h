// JSON of a bundle, read with its place: what is missing or of another kind is said by file and name.
#ifndef SPRINT_EXPORT_JSON_H
#define SPRINT_EXPORT_JSON_H

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "sprint_export/sprint_export.h"

namespace sprint_export {

using Json = nlohmann::json;

// A value within a file; it does not own it. Every function throws BundleError where the value is not what is asked for.
class Node {
public:
    Node(const Json& value, std::string where) : value_(&value), where_(std::move(where)) {}

    Node at(const std::string& key) const;
    bool has(const std::string& key) const;  // whether the object has it, and not as null
    std::vector<Node> items() const;         // of a list
    std::vector<std::pair<std::string, Node>> members() const;  // of an object

    std::string text() const;
    std::int64_t integer(std::int64_t least, std::int64_t most) const;
    double number(double least, double most) const;
    bool boolean() const;
    std::string choice(const std::vector<std::string>& choices) const;

    std::string text_or(const std::string& key, const std::string& otherwise) const;
    bool boolean_or(const std::string& key, bool otherwise) const;

    bool is_text() const;
    std::size_t size() const;  // of a list or an object

    [[noreturn]] void refuse(const std::string& expected) const;

private:
    const Json* value_;
    std::string where_;
};

class Document {
public:
    Document(const std::string& text, const std::string& file);  // throws BundleError
    ~Document();
    Document(const Document&) = delete;
    Document& operator=(const Document&) = delete;

    Node root() const;  // as long as the document lives

private:
    std::unique_ptr<Json> json_;
    std::string file_;
};

}  // namespace sprint_export

#endif
