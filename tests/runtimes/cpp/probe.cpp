// What tests ask of the library's insides: a question as argument, JSON on standard input, JSON on standard output.
#include <fstream>
#include <iostream>
#include <iterator>

#include <nlohmann/json.hpp>

#include "files.h"
#include "json.h"
#include "tensor.h"
#include "tokenizer.h"
#include "unicode.h"

using namespace sprint_export;

namespace {

Json list_tokens(const Json& given) {
    const Document document(given.at("tokenizer").get<std::string>(), "tokenizer.json");
    const Tokenizer tokenizer(document.root());
    Json answers = Json::array();
    for (const Json& text : given.at("texts")) answers.push_back(tokenizer.encode(decode_utf8(text.get<std::string>())));
    return answers;
}

Json list_noise(const Json& given) {
    Json answers = Json::array();
    const auto values = make_noise(given.at("seed").get<std::uint64_t>(), given.at("count").get<std::size_t>(), given.at("first").get<std::uint64_t>());
    for (const float value : values) answers.push_back(static_cast<double>(value));
    return answers;
}

// What each app.json makes of a folder: "drawn", or the error's kind and text. What is none of the library's own errors escapes.
std::string try_app(const std::filesystem::path& folder, const std::string& app) {
    std::ofstream(folder / "app.json", std::ios::binary) << app;
    Options options;
    options.verify = false;
    options.threads = 1;
    try {
        Pipeline pipeline = Pipeline::open(folder, options);
        return "drawn " + hash_bytes(pipeline.draw("a red circle").rgb.data(), 3);
    } catch (const InputError& error) {
        return std::string("InputError ") + error.what();
    } catch (const BundleError& error) {
        return std::string("BundleError ") + error.what();
    } catch (const MachineError& error) {
        return std::string("MachineError ") + error.what();
    }
}

Pipeline open_alone(const Json& given) {
    Options options;
    options.threads = given.at("threads").get<int>();
    return Pipeline::open(std::filesystem::u8path(given.at("folder").get<std::string>()), options);
}

// Milliseconds and hash of pictures of seeds 0, 1, ..., after one that is left out.
Json time_draws(const Json& given) {
    Pipeline pipeline = open_alone(given);
    const std::string prompt = given.at("prompt").get<std::string>();
    pipeline.draw(prompt);
    Json answers = Json::array();
    for (std::uint64_t i = 0; i < given.at("runs").get<std::uint64_t>(); ++i) {
        DrawOptions options;
        options.seed = i;
        const Picture picture = pipeline.draw(prompt, options);
        answers.push_back({{"milliseconds", picture.milliseconds.front().second}, {"sha256", hash_bytes(picture.rgb.data(), picture.rgb.size())}});
    }
    return answers;
}

Json list_ids(const Json& given) {
    const Pipeline pipeline = open_alone(given);
    Json answers = Json::array();
    for (const Json& text : given.at("texts")) answers.push_back(pipeline.encode(text.get<std::string>()).ids);
    return answers;
}

std::string copy_png(const std::string& path) {  // through a picture, into a file beside it
    const std::string file = read_file(path, 1 << 28);
    try {
        const auto bytes = encode_png(decode_png({file.begin(), file.end()}));
        std::ofstream(path + ".copy", std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
        return "";
    } catch (const BundleError& error) {
        return error.what();
    }
}

// A value through a type and back.
double round_to(const std::string& type, double value) {
    return static_cast<double>(Tensor::of_floats({static_cast<float>(value)}, {1}).to(find_type(type)).to(Type::float32).floats()[0]);
}

Json answer(const std::string& question, const Json& given) {
    if (question == "tokens") return list_tokens(given);
    if (question == "noise") return list_noise(given);
    if (question == "times") return time_draws(given);
    if (question == "ids") return list_ids(given);
    Json answers = Json::array();
    if (question == "apps")
        for (const Json& app : given.at("apps"))
            answers.push_back(try_app(std::filesystem::u8path(given.at("folder").get<std::string>()), app.get<std::string>()));
    if (question == "float16" || question == "bfloat16")
        for (const Json& value : given) answers.push_back(round_to(question, value.get<double>()));
    if (question == "hash")
        for (const Json& size : given) answers.push_back(hash_bytes(std::string(size.get<std::size_t>(), 'a').data(), size.get<std::size_t>()));
    if (question == "png")
        for (const Json& path : given) answers.push_back(copy_png(path.get<std::string>()));
    if (question == "lower")
        for (const Json& text : given) answers.push_back(encode_utf8(lower(decode_utf8(text.get<std::string>()))));
    if (question == "compose")
        for (const Json& text : given) answers.push_back(encode_utf8(compose(decode_utf8(text.get<std::string>()))));
    return answers;
}

}  // namespace

int main(int count, char** arguments) {
    try {
        if (count != 2) throw InputError("expected one argument: the question");
        const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
        std::cout << answer(arguments[1], Json::parse(text)).dump(-1, ' ', false, Json::error_handler_t::replace);
        return 0;
    } catch (const Error& error) {
        std::cerr << "error: " << error.what() << "\n";
        return 2;
    }
}
