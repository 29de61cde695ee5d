#include "reference.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "files.h"
#include "json.h"
#include "png_files.h"

namespace sprint_export {
namespace {

constexpr std::uintmax_t MOST_BYTES = 4 << 20, LARGEST_PICTURE = 256 << 20;
constexpr std::size_t MOST_DRAWINGS = 4, MOST_FURTHER = 8;
constexpr std::int64_t FORMAT = 1, MOST_STEPS = 1000;
constexpr double LARGEST_VALUE = 1e39, MOST_DECIBELS = 100, LEAST_ERROR = 1e-12;

template <typename Value>
std::string hash_values(const std::vector<Value>& values) {  // in the machine's order of bytes: little-endian where ONNX Runtime runs
    return hash_bytes(values.data(), values.size() * sizeof(Value));
}

std::uint64_t read_seed(const Node& node) { return static_cast<std::uint64_t>(node.integer(0, INT64_MAX)); }

bool is_same(const std::vector<std::int64_t>& found, const Node& said) {
    const auto items = said.items();
    return std::equal(found.begin(), found.end(), items.begin(), items.end(),
                      [](std::int64_t value, const Node& node) { return value == node.integer(INT64_MIN, INT64_MAX); });
}

// The largest difference of an output's first values, in its standard deviations.
double measure_error(const Node& said, const Tensor& written) {
    if (!written.is_float()) return 0;
    const std::vector<float> values = written.floats();
    const double deviation = said.at("std").number(0, LARGEST_VALUE);
    double largest = 0;
    std::size_t place = 0;
    for (const Node& first : said.at("first").items())
        if (place < values.size())
            largest = std::max(largest, std::abs(first.number(-LARGEST_VALUE, LARGEST_VALUE) - static_cast<double>(values[place++])));
    return largest / (deviation == 0 ? 1 : deviation);
}

// Watches networks while they run: how each call's outputs compare with the reference's.
class Watcher {
public:
    explicit Watcher(std::vector<Node> stages) : stages_(std::move(stages)) {}

    void compare(const Stage& stage, int step, const Values& written) {
        if (!runs_alike_) return;
        if (checks_.size() >= stages_.size() || !is_call_of(stages_[checks_.size()], stage, written)) {
            runs_alike_ = false;
            return;
        }
        StageCheck check{stage.network, step, true, 0};
        for (const auto& [name, said] : stages_[checks_.size()].at("outputs").members()) {
            const Tensor& tensor = written.at(name);
            check.is_same = check.is_same && hash_values(tensor.bytes) == said.at("sha256").text();
            check.error = std::max(check.error, measure_error(said, tensor));
        }
        checks_.push_back(check);
    }

    // The first call that is not the same to the bit, or that other networks ran; empty where all are the reference's.
    std::string find_first() const {
        const auto other = std::find_if(checks_.begin(), checks_.end(), [](const StageCheck& check) { return !check.is_same; });
        if (other != checks_.end()) return other->network + (other->step < 0 ? "" : " in step " + std::to_string(other->step + 1));
        return runs_alike_ && checks_.size() == stages_.size() ? "" : "the networks that ran";
    }

    std::vector<StageCheck> list_checks() const { return runs_alike_ && checks_.size() == stages_.size() ? checks_ : std::vector<StageCheck>{}; }

private:
    static bool is_call_of(const Node& said, const Stage& stage, const Values& written) {
        const auto outputs = said.at("outputs").members();
        return said.at("network").text() == stage.network && outputs.size() == written.size() &&
               std::all_of(outputs.begin(), outputs.end(), [&](const auto& output) { return written.count(output.first) != 0; });
    }

    std::vector<Node> stages_;
    std::vector<StageCheck> checks_;
    bool runs_alike_ = true;
};

// The reference's picture, of the size of the one that is drawn here.
Picture read_picture(const std::filesystem::path& folder, const Node& said, const Picture& drawn) {
    const auto file = find_file(folder, said.at("file").text());
    const std::string bytes = read_file(file, LARGEST_PICTURE);
    Picture picture;
    try {
        picture = decode_png({bytes.begin(), bytes.end()}, drawn.rgb.size() / 3);
    } catch (const InputError& error) {
        throw BundleError(show(file) + ": " + error.what() + "; copy the bundle again");
    }
    const bool has_size = picture.width == drawn.width && picture.height == drawn.height;
    if (!has_size || hash_values(picture.rgb) != said.at("sha256").text())
        throw BundleError(show(file) + " is not the picture that the reference says; copy the bundle again");
    return picture;
}

void compare_pixels(const Picture& before, const Picture& now, Check& check) {
    std::uint64_t sum = 0, squares = 0;
    for (std::size_t i = 0; i < before.rgb.size(); ++i) {
        const int apart = std::abs(before.rgb[i] - now.rgb[i]);
        check.largest = std::max(check.largest, apart);
        sum += static_cast<std::uint64_t>(apart);
        squares += static_cast<std::uint64_t>(apart * apart);
    }
    const auto count = static_cast<double>(before.rgb.size());
    check.mean = static_cast<double>(sum) / count;
    check.psnr_db = std::min(MOST_DECIBELS, 10 * std::log10(255.0 * 255 / std::max(static_cast<double>(squares) / count, LEAST_ERROR)));
}

Check check_drawing(const std::filesystem::path& folder, const Node& said, const Comparing& asked, const Draw& draw) {
    Check check;
    check.prompt = said.at("prompt").text();
    check.seed = read_seed(said.at("seed"));
    check.steps = static_cast<int>(said.at("steps").integer(1, MOST_STEPS));
    check.before = said.at("runtime").text();
    check.now = asked.now;
    DrawOptions options;
    options.steps = check.steps;
    options.seed = check.seed;
    Watcher watcher(said.at("stages").items());
    const auto watch = [&](const Stage& stage, int step, const Values& written, double) { watcher.compare(stage, step, written); };
    const Drawing drawing = draw(check.prompt, options, watch);
    compare_pixels(read_picture(folder, said.at("picture"), drawing.picture), drawing.picture, check);
    check.stages = watcher.list_checks();
    const bool has_noise = hash_values(drawing.noise) == said.at("noise").at("sha256").text();
    const bool has_ids = is_same(drawing.prompt.ids, said.at("ids")), has_mask = is_same(drawing.prompt.mask, said.at("mask"));
    check.begins = !has_ids ? "ids" : !has_mask ? "mask" : !has_noise ? "noise" : watcher.find_first();
    if (check.begins.empty() && check.largest != 0) check.begins = "picture";
    check.passed = check.largest <= asked.tolerance && has_ids && has_mask && has_noise;
    return check;
}

std::vector<Node> list_drawings(const Node& root, bool has_further) {
    std::vector<Node> drawings = root.at("drawings").items();
    if (drawings.empty() || drawings.size() > MOST_DRAWINGS) root.at("drawings").refuse("1 to " + std::to_string(MOST_DRAWINGS) + " drawings");
    if (!has_further || !root.has("further")) return drawings;
    const std::vector<Node> further = root.at("further").items();
    if (further.size() > MOST_FURTHER) root.at("further").refuse("at most " + std::to_string(MOST_FURTHER) + " drawings");
    drawings.insert(drawings.end(), further.begin(), further.end());
    return drawings;
}

}  // namespace

std::vector<Check> check_reference(const std::filesystem::path& folder, const std::string& file, const Comparing& asked, const Draw& draw) {
    if (asked.tolerance < 0 || asked.tolerance > 255)
        throw InputError("tolerance=" + std::to_string(asked.tolerance) + ", expected 0 to 255");
    if (file.empty()) throw InputError("the bundle has no reference: nothing could run it where it was made");
    const auto path = find_file(folder, file);
    const Document document(read_file(path, MOST_BYTES), show(path));
    const Node root = document.root();
    root.at("format").integer(FORMAT, FORMAT);
    std::vector<Check> checks;
    for (const Node& drawing : list_drawings(root, asked.has_further)) checks.push_back(check_drawing(folder, drawing, asked, draw));
    return checks;
}

}  // namespace sprint_export
