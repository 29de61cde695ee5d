#include "arguments.h"

#include <cmath>
#include <functional>
#include <locale>
#include <optional>
#include <set>
#include <sstream>

using namespace sprint_export;

const char* const USAGE =
    "usage: sprint-draw BUNDLE PROMPT [-o FILE.png] [--seed N] [--steps N] [--height N] [--width N] [--times]\n"
    "                   [--image FILE.png [--strength X]] [--control FILE.png [--control-scale X]]\n"
    "       sprint-draw BUNDLE --check [--tolerance N] [-o FILE.json] [--label TEXT]\n"
    "       sprint-draw BUNDLE --bench [--runs N] [--warm-up N] [-o FILE.json] [--label TEXT]\n"
    "all:   [--provider NAME] [--provider-option KEY=VALUE] [--allow-cpu-nodes] [--threads N] [--one-at-a-time] [--no-verify]\n"
    "\n"
    "--check draws the bundle's reference/ again and compares, --bench times; both may stand together. FILE.json is a result for\n"
    "`sprint-export report --merge BUNDLE FILE.json`.\n"
    "Exit status: 0 done; 1 not the reference's pictures; 2 wrong input, or a damaged bundle; 3 the machine lacks something.\n";

namespace {

constexpr std::uint64_t MOST = 1 << 20;
constexpr const char* HELP = "; see: sprint-draw --help";
enum Mode : unsigned { DRAW = 1, CHECK = 2, BENCH = 4, ANY = 7 };

struct Option {
    const char* name;
    bool has_value;
    unsigned modes;
    std::function<void(Asked&, const std::string&)> read;
};

std::uint64_t read_number(const std::string& name, const std::string& text, std::uint64_t least, std::uint64_t most) {
    std::uint64_t number = 0;
    bool is_number = !text.empty();
    for (const char digit : text) {
        const auto value = static_cast<std::uint64_t>(digit - '0');
        is_number = is_number && digit >= '0' && digit <= '9' && value <= most && number <= (most - value) / 10;
        number = is_number ? number * 10 + value : 0;
    }
    if (!is_number || number < least)
        throw InputError(name + " " + text + ": expected a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    return number;
}

double read_real(const std::string& name, const std::string& text) {
    std::istringstream stream(text);
    stream.imbue(std::locale::classic());
    double value = 0;
    if (!(stream >> value) || !stream.eof() || !std::isfinite(value)) throw InputError(name + " " + text + ": expected a number");
    return value;
}

int read_count(const std::string& name, const std::string& text, std::uint64_t least = 1) {
    return static_cast<int>(read_number(name, text, least, MOST));
}

void read_provider_option(Asked& asked, const std::string& pair) {
    const std::size_t equals = pair.find('=');
    if (equals == std::string::npos || equals == 0) throw InputError("--provider-option " + pair + ": expected KEY=VALUE");
    asked.options.provider_options[pair.substr(0, equals)] = pair.substr(equals + 1);
}

const std::vector<Option>& list_options() {
    static const std::vector<Option> options = {
        {"-o", true, ANY, [](Asked& asked, const std::string& text) { asked.out = text; }},
        {"--out", true, ANY, [](Asked& asked, const std::string& text) { asked.out = text; }},
        {"--seed", true, DRAW, [](Asked& asked, const std::string& text) { asked.draw.seed = read_number("--seed", text, 0, UINT64_MAX); }},
        {"--steps", true, DRAW, [](Asked& asked, const std::string& text) { asked.draw.steps = read_count("--steps", text); }},
        {"--height", true, DRAW, [](Asked& asked, const std::string& text) { asked.draw.height = read_count("--height", text); }},
        {"--width", true, DRAW, [](Asked& asked, const std::string& text) { asked.draw.width = read_count("--width", text); }},
        {"--image", true, DRAW, [](Asked& asked, const std::string& text) { asked.image = text; }},
        {"--strength", true, DRAW, [](Asked& asked, const std::string& text) { asked.draw.strength = read_real("--strength", text); }},
        {"--control", true, DRAW, [](Asked& asked, const std::string& text) { asked.control = text; }},
        {"--control-scale", true, DRAW,
         [](Asked& asked, const std::string& text) { asked.draw.control_scale = static_cast<float>(read_real("--control-scale", text)); }},
        {"--times", false, DRAW, [](Asked& asked, const std::string&) { asked.shows_times = true; }},
        {"--check", false, CHECK | BENCH, [](Asked& asked, const std::string&) { asked.checks = true; }},
        {"--bench", false, CHECK | BENCH, [](Asked& asked, const std::string&) { asked.times = true; }},
        {"--tolerance", true, CHECK,
         [](Asked& asked, const std::string& text) { asked.measure.tolerance = static_cast<int>(read_number("--tolerance", text, 0, 255)); }},
        {"--runs", true, BENCH, [](Asked& asked, const std::string& text) { asked.measure.runs = read_count("--runs", text); }},
        {"--warm-up", true, BENCH, [](Asked& asked, const std::string& text) { asked.measure.warm_up = read_count("--warm-up", text, 0); }},
        {"--label", true, CHECK | BENCH, [](Asked& asked, const std::string& text) { asked.measure.label = text; }},
        {"--provider", true, ANY, [](Asked& asked, const std::string& text) { asked.options.provider = text; }},
        {"--provider-option", true, ANY, read_provider_option},
        {"--allow-cpu-nodes", false, ANY, [](Asked& asked, const std::string&) { asked.options.allow_cpu_nodes = true; }},
        {"--threads", true, ANY, [](Asked& asked, const std::string& text) { asked.options.threads = read_count("--threads", text, 0); }},
        {"--one-at-a-time", false, ANY, [](Asked& asked, const std::string&) { asked.options.one_at_a_time = true; }},
        {"--no-verify", false, ANY, [](Asked& asked, const std::string&) { asked.options.verify = false; }},
        {"-h", false, ANY, [](Asked& asked, const std::string&) { asked.shows_help = true; }},
        {"--help", false, ANY, [](Asked& asked, const std::string&) { asked.shows_help = true; }}};
    return options;
}

const Option& find_option(const std::string& name) {
    for (const Option& option : list_options())
        if (name == option.name) return option;
    throw InputError("no option " + name + HELP);
}

// What is said of a picture, a comparison or a timing, where there is none.
void check_together(const Asked& asked, const std::set<std::string>& given, const std::vector<std::string>& texts) {
    const unsigned mode = asked.draws() ? DRAW : (asked.checks ? CHECK : 0U) | (asked.times ? BENCH : 0U);
    for (const std::string& name : given)
        if ((find_option(name).modes & mode) == 0)
            throw InputError(name + " goes with " + (find_option(name).modes == DRAW ? "a prompt" : find_option(name).modes == BENCH ? "--bench" : "--check") + HELP);
    if (given.count("--strength") != 0 && asked.image.empty()) throw InputError("--strength says how a picture is used; give --image too");
    if (given.count("--control-scale") != 0 && asked.control.empty())
        throw InputError("--control-scale says how a picture is used; give --control too");
    if (texts.empty() || (texts.size() == 1) == asked.draws()) throw InputError(std::string("a bundle and a prompt, or --check or --bench") + HELP);
    if (texts.size() > 2) throw InputError("one prompt at a time, found also \"" + texts[2] + "\"" + HELP);
}

}  // namespace

Asked read_arguments(const std::vector<std::string>& arguments) {
    Asked asked;
    std::set<std::string> given;
    std::vector<std::string> texts;
    bool has_ended = false;  // of options
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const std::string& name = arguments[i];
        if (has_ended || name.size() < 2 || name[0] != '-') {
            texts.push_back(name);
        } else if (name == "--") {
            has_ended = true;
        } else {
            const Option& option = find_option(name);
            if (option.has_value && i + 1 == arguments.size()) throw InputError(name + " wants a value" + HELP);
            option.read(asked, option.has_value ? arguments[++i] : "");
            given.insert(name);
        }
    }
    if (asked.shows_help) return asked;
    check_together(asked, given, texts);
    asked.bundle = texts[0];
    if (texts.size() == 2) asked.prompt = texts[1];
    asked.measure.checks = asked.checks;
    asked.measure.times = asked.times;
    return asked;
}
