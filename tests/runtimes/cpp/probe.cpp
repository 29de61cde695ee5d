// What tests ask of the library's insides: a question as argument, JSON on standard input, JSON on standard output.
#include <fstream>
#include <iostream>
#include <iterator>

#include <nlohmann/json.hpp>

#include "files.h"
#include "identity.h"
#include "json.h"
#include "quantiles.h"
#include "resizing.h"
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

// What is answered, or the error's kind and text. What is none of the library's own errors escapes.
std::string name_error(const std::function<std::string()>& answer) {
    try {
        return answer();
    } catch (const InputError& error) {
        return std::string("InputError ") + error.what();
    } catch (const BundleError& error) {
        return std::string("BundleError ") + error.what();
    } catch (const MachineError& error) {
        return std::string("MachineError ") + error.what();
    }
}

// What each app.json makes of a folder and, where they are given, of pictures: "drawn", or an error.
std::string try_app(const Json& given, const std::string& app) {
    const auto folder = std::filesystem::u8path(given.at("folder").get<std::string>());
    std::ofstream(folder / "app.json", std::ios::binary) << app;
    Options options;
    options.verify = false;
    options.threads = 1;
    return name_error([&] {
        Pipeline pipeline = Pipeline::open(folder, options);
        DrawOptions draw;
        if (given.contains("image")) draw.image = read_png(given.at("image").get<std::string>());
        if (given.contains("control")) draw.control = read_png(given.at("control").get<std::string>());
        return "drawn " + hash_bytes(pipeline.draw("a red circle", draw).rgb.data(), 3);
    });
}

// The same of each reference.json, drawn again, and of each bundle.json, whose identity is asked for.
Json try_texts(const std::string& question, const Json& given) {
    const auto folder = std::filesystem::u8path(given.at("folder").get<std::string>());
    const bool is_reference = question == "references";
    Options options;
    options.threads = 1;
    Pipeline pipeline = Pipeline::open(folder, options);
    const App app = read_app(folder);
    Json answers = Json::array();
    for (const Json& text : given.at("texts")) {
        std::ofstream(folder / (is_reference ? "reference/reference.json" : "bundle.json"), std::ios::binary) << text.get<std::string>();
        answers.push_back(name_error([&] { return is_reference ? "drawn " + std::to_string(pipeline.check().size()) : find_identity(folder, app); }));
    }
    return answers;
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
    } catch (const InputError& error) {
        return error.what();
    }
}

// Values [3, height, width] that a network reads of each picture.
Json fit_files(const Json& given) {
    Json answers = Json::array();
    for (const Json& each : given)
        answers.push_back(fit_picture("image", read_png(each.at("file").get<std::string>()), each.at("height").get<int>(), each.at("width").get<int>()));
    return answers;
}

// Of each list of values: its quantiles with their intervals, and how many values an interval takes.
Json list_quantiles(const Json& given) {
    const auto describe = [](const std::optional<Interval>& interval) { return interval ? Json{interval->first, interval->second} : Json(nullptr); };
    Json answers = Json::array();
    for (const Json& each : given) {
        const auto values = each.get<std::vector<double>>();
        Json rows = Json::array();
        for (const double share : {0.5, 0.9, 0.99})
            rows.push_back({find_quantile(values, share), describe(share == 0.5 ? bound_median(values) : bound_quantile(values, share)), count_needed(share)});
        answers.push_back(rows);
    }
    return answers;
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
    if (question == "fit") return fit_files(given);
    if (question == "quantiles") return list_quantiles(given);
    if (question == "references" || question == "manifests") return try_texts(question, given);
    Json answers = Json::array();
    if (question == "apps")
        for (const Json& app : given.at("apps"))
            answers.push_back(try_app(given, app.get<std::string>()));
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
