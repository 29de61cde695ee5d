#include "reference.h"

#include <algorithm>
#include <cstdlib>

#include "files.h"
#include "json.h"

namespace sprint_export {
namespace {

constexpr std::uintmax_t MOST_BYTES = 4 << 20, LARGEST_PICTURE = 256 << 20;
constexpr std::size_t MOST_DRAWINGS = 4;
constexpr std::int64_t FORMAT = 1, MOST_STEPS = 1000;

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

// Watches networks while they run, and notes the first whose outputs are not the reference's.
class Watcher {
public:
    explicit Watcher(std::vector<Node> stages) : stages_(std::move(stages)) {}

    void compare(const Stage& stage, int step, const Values& written) {
        if (!begins_.empty()) return;
        const std::size_t place = count_++;
        if (place >= stages_.size() || stages_[place].at("network").text() != stage.network)
            begins_ = "the networks that ran";
        else if (!has_digests(stages_[place].at("outputs"), written))
            begins_ = stage.network + (step < 0 ? "" : " in step " + std::to_string(step + 1));
    }

    std::string finish() const { return begins_.empty() && count_ != stages_.size() ? "the networks that ran" : begins_; }

private:
    static bool has_digests(const Node& outputs, const Values& written) {
        const auto said = outputs.members();
        return said.size() == written.size() && std::all_of(said.begin(), said.end(), [&](const auto& output) {
                   const auto found = written.find(output.first);
                   return found != written.end() && hash_values(found->second.bytes) == output.second.at("sha256").text();
               });
    }

    std::vector<Node> stages_;
    std::size_t count_ = 0;
    std::string begins_;
};

Picture read_picture(const std::filesystem::path& folder, const Node& said) {
    const auto file = find_file(folder, said.at("file").text());
    const std::string bytes = read_file(file, LARGEST_PICTURE);
    Picture picture = decode_png({bytes.begin(), bytes.end()});
    if (hash_values(picture.rgb) != said.at("sha256").text())
        throw BundleError(show(file) + " is not the picture that the reference says; copy the bundle again");
    return picture;
}

Check check_drawing(const std::filesystem::path& folder, const Node& said, int tolerance, const Draw& draw) {
    DrawOptions options;
    options.steps = static_cast<int>(said.at("steps").integer(1, MOST_STEPS));
    options.seed = read_seed(said.at("seed"));
    Watcher watcher(said.at("stages").items());
    const auto watch = [&](const Stage& stage, int step, const Values& written, double) { watcher.compare(stage, step, written); };
    const Drawing drawing = draw(said.at("prompt").text(), options, watch);
    const Picture before = read_picture(folder, said.at("picture"));
    if (before.width != drawing.picture.width || before.height != drawing.picture.height)
        said.at("picture").refuse("a picture of the bundle's size");
    Check check;
    check.steps = options.steps;
    for (std::size_t i = 0; i < before.rgb.size(); ++i)
        check.largest = std::max(check.largest, std::abs(before.rgb[i] - drawing.picture.rgb[i]));
    const bool has_noise = hash_values(drawing.noise) == said.at("noise").at("sha256").text();
    const bool has_ids = is_same(drawing.prompt.ids, said.at("ids")), has_mask = is_same(drawing.prompt.mask, said.at("mask"));
    check.begins = !has_ids ? "ids" : !has_mask ? "mask" : !has_noise ? "noise" : watcher.finish();
    if (check.begins.empty() && check.largest != 0) check.begins = "picture";
    check.passed = check.largest <= tolerance && has_ids && has_mask && has_noise;
    return check;
}

}  // namespace

std::vector<Check> check_reference(const std::filesystem::path& folder, const std::string& file, int tolerance, const Draw& draw) {
    if (tolerance < 0 || tolerance > 255) throw InputError("tolerance=" + std::to_string(tolerance) + ", expected 0 to 255");
    if (file.empty()) throw InputError("the bundle has no reference: nothing could run it where it was made");
    const auto path = find_file(folder, file);
    const Document document(read_file(path, MOST_BYTES), show(path));
    const Node root = document.root();
    root.at("format").integer(FORMAT, FORMAT);
    const std::vector<Node> drawings = root.at("drawings").items();
    if (drawings.empty() || drawings.size() > MOST_DRAWINGS) root.at("drawings").refuse("1 to " + std::to_string(MOST_DRAWINGS) + " drawings");
    std::vector<Check> checks;
    for (const Node& drawing : drawings) checks.push_back(check_drawing(folder, drawing, tolerance, draw));
    return checks;
}

}  // namespace sprint_export
