// What tests ask of the library's insides: a question as arguments, JSON on standard input, JSON on standard output.
#include <iostream>
#include <iterator>

#include <nlohmann/json.hpp>

#include "json.h"
#include "tokenizer.h"
#include "unicode.h"

using namespace sprint_export;

namespace {

Json answer(const std::string& question, const Json& given) {
    Json answers = Json::array();
    if (question == "tokens") {
        const Tokenizer tokenizer(Node(given.at("tokenizer"), "tokenizer.json"));
        for (const Json& text : given.at("texts"))
            answers.push_back(tokenizer.encode(decode_utf8(text.get<std::string>())));
        return answers;
    }
    if (question == "noise") {
        const auto values = make_noise(given.at("seed").get<std::uint64_t>(), given.at("count").get<std::size_t>(), given.at("first").get<std::uint64_t>());
        for (const float value : values) answers.push_back(static_cast<double>(value));
        return answers;
    }
    for (const Json& text : given) {
        const std::u32string characters = decode_utf8(text.get<std::string>());
        answers.push_back(encode_utf8(question == "lower" ? lower(characters) : compose(characters)));
    }
    return answers;
}

}  // namespace

int main(int count, char** arguments) {
    try {
        if (count != 2) throw InputError("expected one argument: tokens, noise, lower or compose");
        const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
        std::cout << answer(arguments[1], Json::parse(text)).dump();
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << "\n";
        return 2;
    }
}
