// sprint-draw BUNDLE "a red circle" --seed 3 -o a.png     draws a picture
// sprint-draw BUNDLE --check                               compares with the bundle's reference/
// sprint-draw BUNDLE --check --bench -o device.json        and times, for: sprint-export report --merge BUNDLE device.json
#include <cctype>
#include <fstream>
#include <iostream>
#include <new>

#include "arguments.h"

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#endif

namespace {

namespace fs = std::filesystem;
using namespace sprint_export;

constexpr int DIFFERENT = 1, WRONG_INPUT = 2, MACHINE = 3;
const auto BEGAN = std::chrono::steady_clock::now();

// A text of a bundle's as one line without what a terminal would obey.
std::string make_plain(const std::string& text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]), next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
        const bool is_control = byte < 0x20 || byte == 0x7F, is_wide_control = byte == 0xC2 && next >= 0x80 && next < 0xA0;
        plain += is_control || is_wide_control ? ' ' : text[i];
        if (is_wide_control) ++i;
    }
    return plain;
}

// Where a file can be written, before the work that it is the end of.
void check_output(const std::string& out, const std::string& suffix) {
    const fs::path path = fs::absolute(fs::u8path(out));
    std::string found = path.extension().u8string();
    for (char& letter : found) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
    std::error_code error;
    if (found != suffix) throw InputError("-o " + out + ": use a name that ends in " + suffix);
    if (!fs::is_directory(path.parent_path(), error)) throw InputError("-o " + out + ": the folder " + path.parent_path().u8string() + " does not exist");
    if (fs::exists(path, error) && !fs::is_regular_file(path, error))
        throw InputError("-o " + out + (fs::is_directory(path, error) ? " is a folder" : " is a device or a pipe") + "; expected a file");
}

void write_whole(const std::string& out, const char* data, std::size_t size) {
    const fs::path path = fs::u8path(out);
    fs::path part = path;
    part += "." + std::to_string(std::chrono::steady_clock::now().time_since_epoch().count()) + ".part";
    std::ofstream file(part, std::ios::binary);
    file.write(data, static_cast<std::streamsize>(size));
    file.close();
    std::error_code error;
    if (file) fs::rename(part, path, error);
    if (file && !error) return;
    fs::remove(part, error);
    throw MachineError(out + " cannot be written; choose another -o");
}

void show_check(const Check& check, bool shows_prompt) {
    std::cout << check.steps << (check.steps == 1 ? " step" : " steps");
    if (shows_prompt) std::cout << ", \"" << make_plain(check.prompt) << "\", seed " << check.seed;
    std::cout << ": ";
    std::cout << (check.begins.empty() ? "equal to the bit"
                                       : "at most " + std::to_string(check.largest) + " of 255 apart, from " + make_plain(check.begins) + " on");
    std::cout << (check.passed ? "\n" : ": DIFFERENT\n");
}

void show_row(const Row& row, const std::string& said) {  // with its note, unless the row before had the same
    std::cout << row.metric << (row.component.empty() ? "" : " of ") << make_plain(row.component) << ": " << row.value << " " << row.unit;
    if (row.interval) std::cout << " (" << row.interval->first << " to " << row.interval->second << ")";
    std::cout << (row.note == said ? "" : "; " + make_plain(row.note)) << "\n";
}

int measure(Pipeline& pipeline, Asked& asked) {
    std::vector<Check> checks;
    if (!asked.times && asked.out.empty()) {
        checks = pipeline.check(asked.measure.tolerance);
        for (const Check& check : checks) show_check(check, false);
    } else {
        asked.measure.began = BEGAN;
        const DeviceResult result = pipeline.measure(asked.measure);
        if (!asked.out.empty()) write_whole(asked.out, result.json.data(), result.json.size());
        checks = result.checks;
        for (const Check& check : checks) show_check(check, true);
        std::string said;
        for (const Row& row : result.rows) {
            show_row(row, said);
            said = row.note;
        }
        if (!asked.out.empty()) std::cout << asked.out << "\n";
    }
    for (const Check& check : checks)
        if (!check.passed) return DIFFERENT;
    return 0;
}

Picture read_given(const std::string& option, const std::string& file) {
    try {
        return read_png(fs::u8path(file));
    } catch (const InputError& error) {
        throw InputError(option + " " + error.what());
    }
}

int draw(Pipeline& pipeline, const Asked& asked) {
    if (asked.draw.image && pipeline.find_first_time(asked.draw) >= 1)
        std::cerr << "at this strength the steps start from noise alone, and the picture has no part; take more steps or less strength\n";
    const Picture picture = pipeline.draw(asked.prompt, asked.draw);
    const auto bytes = encode_png(picture);
    write_whole(asked.out, reinterpret_cast<const char*>(bytes.data()), bytes.size());
    std::cout << asked.out << "\n";
    for (const auto& [network, milliseconds] : picture.milliseconds)
        if (asked.shows_times) std::cout << make_plain(network) << " " << milliseconds << " ms\n";
    return 0;
}

int run_asked(const std::vector<std::string>& arguments) {
    Asked asked = read_arguments(arguments);
    if (asked.shows_help) {
        std::cout << USAGE;
        return 0;
    }
    if (asked.draws() && asked.out.empty()) asked.out = "picture.png";
    if (!asked.out.empty()) check_output(asked.out, asked.draws() ? ".png" : ".json");
    if (!asked.image.empty()) asked.draw.image = read_given("--image", asked.image);
    if (!asked.control.empty()) asked.draw.control = read_given("--control", asked.control);
    Pipeline pipeline = Pipeline::open(fs::u8path(asked.bundle), asked.options);
    return asked.draws() ? draw(pipeline, asked) : measure(pipeline, asked);
}

int say(const std::string& error, int status) {
    std::cerr << "error: " << make_plain(error) << "\n";
    return status;
}

int run(const std::vector<std::string>& arguments) {
    try {
        const int status = run_asked(arguments);
        std::cout.flush();
        return std::cout ? status : say("standard output cannot be written", MACHINE);
    } catch (const MachineError& error) {
        return say(error.what(), MACHINE);
    } catch (const std::bad_alloc&) {
        return say("memory ran short; end other programs, or draw with --one-at-a-time", MACHINE);
    } catch (const std::exception& error) {
        return say(error.what(), WRONG_INPUT);
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
