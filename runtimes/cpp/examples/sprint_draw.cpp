// sprint-draw BUNDLE "a red circle" --seed 3 -o a.png     draws a picture
// sprint-draw BUNDLE --check                               compares with the bundle's reference/
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "sprint_export/sprint_export.h"

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#endif

namespace {

namespace fs = std::filesystem;
using namespace sprint_export;

constexpr const char* USAGE =
    "usage: sprint-draw BUNDLE PROMPT [-o FILE.png] [--seed N] [--steps N] [--height N] [--width N]\n"
    "       sprint-draw BUNDLE --check\n"
    "both:  [--provider NAME] [--provider-option KEY=VALUE] [--allow-cpu-nodes] [--threads N] [--one-at-a-time] [--no-verify] [--times]\n";

struct Asked {
    std::string bundle, prompt, out = "picture.png";
    Options options;
    DrawOptions draw;
    bool checks = false, shows_times = false, has_prompt = false;
};

std::uint64_t read_number(const std::string& name, const std::string& text, std::uint64_t most) {
    std::uint64_t number = 0;
    bool is_number = !text.empty();
    for (const char digit : text) {
        const auto value = static_cast<std::uint64_t>(digit - '0');
        is_number = is_number && digit >= '0' && digit <= '9' && number <= (most - value) / 10;
        number = is_number ? number * 10 + value : 0;
    }
    if (!is_number) throw InputError(name + " " + text + ": expected a whole number from 0 to " + std::to_string(most));
    return number;
}

Asked read_arguments(const std::vector<std::string>& arguments) {
    Asked asked;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string& name = arguments[i];
        const auto next = [&]() -> const std::string& {
            if (i + 1 == arguments.size()) throw InputError(name + " wants a value\n" + USAGE);
            return arguments[++i];
        };
        const auto next_int = [&] { return static_cast<int>(read_number(name, next(), 1 << 20)); };
        if (name == "-o" || name == "--out") asked.out = next();
        else if (name == "--seed") asked.draw.seed = read_number(name, next(), UINT64_MAX);
        else if (name == "--steps") asked.draw.steps = next_int();
        else if (name == "--height") asked.draw.height = next_int();
        else if (name == "--width") asked.draw.width = next_int();
        else if (name == "--threads") asked.options.threads = next_int();
        else if (name == "--provider") asked.options.provider = next();
        else if (name == "--provider-option") {
            const std::string& pair = next();
            const std::size_t equals = pair.find('=');
            if (equals == std::string::npos) throw InputError(name + " " + pair + ": expected KEY=VALUE");
            asked.options.provider_options[pair.substr(0, equals)] = pair.substr(equals + 1);
        } else if (name == "--allow-cpu-nodes") asked.options.allow_cpu_nodes = true;
        else if (name == "--one-at-a-time") asked.options.one_at_a_time = true;
        else if (name == "--no-verify") asked.options.verify = false;
        else if (name == "--check") asked.checks = true;
        else if (name == "--times") asked.shows_times = true;
        else if (name.size() > 1 && name[0] == '-') throw InputError("no option " + name + "\n" + USAGE);
        else if (asked.bundle.empty()) asked.bundle = name;
        else if (!asked.has_prompt) {
            asked.prompt = name;
            asked.has_prompt = true;
        } else throw InputError("one prompt at a time, found also \"" + name + "\"\n" + USAGE);
    }
    if (asked.bundle.empty() || asked.has_prompt == asked.checks) throw InputError(std::string("a bundle and a prompt, or --check\n") + USAGE);
    return asked;
}

int check(Pipeline& pipeline) {
    bool is_right = true;
    for (const Check& each : pipeline.check()) {
        std::cout << each.steps << (each.steps == 1 ? " step: " : " steps: ");
        std::cout << (each.begins.empty() ? "equal to the bit" : "at most " + std::to_string(each.largest) + " of 255 apart, from " + each.begins + " on");
        std::cout << (each.passed ? "\n" : ": DIFFERENT\n");
        is_right = is_right && each.passed;
    }
    return is_right ? 0 : 1;
}

int draw(Pipeline& pipeline, const Asked& asked) {
    const Picture picture = pipeline.draw(asked.prompt, asked.draw);
    const auto bytes = encode_png(picture);
    std::ofstream file(fs::u8path(asked.out), std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    file.close();
    if (!file) throw MachineError(asked.out + " cannot be written");
    std::cout << asked.out << "\n";
    for (const auto& [network, milliseconds] : picture.milliseconds)
        if (asked.shows_times) std::cout << network << " " << milliseconds << " ms\n";
    return 0;
}

int run(const std::vector<std::string>& arguments) {
    try {
        const Asked asked = read_arguments(arguments);
        Pipeline pipeline = Pipeline::open(fs::u8path(asked.bundle), asked.options);
        return asked.checks ? check(pipeline) : draw(pipeline, asked);
    } catch (const MachineError& error) {
        std::cerr << "error: " << error.what() << "\n";
        return 3;
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << "\n";
        return 2;
    }
}

}  // namespace

#ifdef _WIN32
int wmain(int count, wchar_t** arguments) {
    SetConsoleOutputCP(CP_UTF8);
    std::vector<std::string> texts;
    for (int i = 1; i < count; ++i) texts.push_back(fs::path(arguments[i]).u8string());
    return run(texts);
}
#else
int main(int count, char** arguments) { return run({arguments + 1, arguments + count}); }
#endif
