#include "app.h"

#include <algorithm>
#include <map>
#include <set>

#include "files.h"
#include "json.h"

namespace sprint_export {
namespace {

constexpr std::int64_t FORMAT = 1;
constexpr std::uintmax_t MOST_BYTES = 4 << 20;  // of app.json; a full-size student's has under 0.1 million
constexpr std::int64_t MOST_TOKENS = 1 << 16, MOST_SIZE = 1 << 16, MOST_STEPS = 1000;
constexpr std::size_t MOST_FILES = 4096;  // as a manifest's
constexpr std::size_t MOST_PARTS = 64;  // stages, graphs of a network, steps of a prompt, ranges of a mask
constexpr std::int64_t LARGEST_FILE = std::int64_t{1} << 40, LARGEST_ID = 1 << 30;

std::int64_t read_digits(const std::string& text) {  // -1 where it is no size
    const bool is_number = !text.empty() && text.size() <= 9 && text.find_first_not_of("0123456789") == std::string::npos;
    return is_number ? std::stoll(text) : -1;
}

Axis read_axis(const Node& node) {
    if (!node.is_text()) return {node.integer(1, MOST_VALUES), ""};
    const std::string text = node.text();
    const std::size_t star = text.find('*');
    if (star == std::string::npos) return {1, text};
    const std::int64_t size = read_digits(text.substr(0, star));
    if (size < 1 || star + 1 == text.size()) node.refuse("a size, a name, or a number of units of one such as 32*height");
    return {size, text.substr(star + 1)};
}

std::vector<Axis> read_axes(const Node& node) {
    std::vector<Axis> axes;
    for (const Node& axis : node.items()) axes.push_back(read_axis(axis));
    return axes;
}

std::vector<Spec> read_specs(const Node& node) {
    std::vector<Spec> specs;
    for (const Node& each : node.items())
        specs.push_back({each.at("name").text(), find_type(each.at("dtype").choice({"float32", "float16", "bfloat16", "int64", "int32", "bool"})),
                         read_axes(each.at("shape"))});
    if (specs.empty()) node.refuse("at least one tensor");
    return specs;
}

std::vector<Graph> read_graphs(const Node& network, const std::set<std::string>& known) {
    std::vector<Graph> graphs;
    for (const Node& node : network.at("graphs").items()) {
        node.at("format").choice({"onnx"});
        graphs.push_back({node.at("path").text(), read_specs(node.at("inputs")), read_specs(node.at("outputs"))});
        std::vector<Node> files = node.at("files").items();
        files.push_back(node.at("path"));
        for (const Node& file : files)
            if (known.count(file.text()) == 0) file.refuse("one of its files, which have a hash");
    }
    if (graphs.empty() || graphs.size() > MOST_PARTS) network.refuse("1 to " + std::to_string(MOST_PARTS) + " graphs");
    return graphs;
}

void check_count(const Node& list) {
    if (list.size() > MOST_PARTS) list.refuse("at most " + std::to_string(MOST_PARTS));
}

void read_stages(const Node& root, App& app) {
    check_count(root.at("stages"));
    std::set<std::string> known;
    for (const FileEntry& entry : app.files) known.insert(entry.path);
    std::map<std::string, std::vector<Graph>> read;  // however many stages name a network
    for (const Node& node : root.at("stages").items()) {
        Stage stage;
        stage.network = node.at("network").text();
        if (read.count(stage.network) == 0) read.emplace(stage.network, read_graphs(root.at("networks").at(stage.network), known));
        stage.graphs = read.at(stage.network);
        stage.is_each_step = node.at("when").choice({"once", "each step"}) == "each step";
        stage.is_optional = node.boolean_or("optional", false);
        app.stages.push_back(std::move(stage));
    }
    int loops = 0;
    for (std::size_t i = 0; i < app.stages.size(); ++i)
        loops += app.stages[i].is_each_step && (i == 0 || !app.stages[i - 1].is_each_step) ? 1 : 0;
    if (loops > 1 || app.stages.empty()) root.at("stages").refuse("stages, those of each step together");  // none: one graph does it all
}

PromptStep read_prompt_step(const Node& node) {
    PromptStep step;
    step.what = node.at("do").choice({"lower", "strip", "wrap", "tokenize", "cut", "refuse longer", "check prefix", "pad", "drop"});
    if (step.what == "strip") step.text = node.at("characters").text();
    if (step.what == "wrap") {
        step.text = node.at("prefix").text();
        step.behind = node.at("suffix").text();
    }
    if (step.what == "tokenize") step.text = node.at("file").text();
    if (step.what == "cut" || step.what == "refuse longer" || step.what == "pad") step.tokens = node.at("tokens").integer(1, MOST_TOKENS);
    if (step.what == "cut") step.id = node.at("keep_last").integer(0, step.tokens);
    if (step.what == "pad") step.id = node.at("id").integer(0, LARGEST_ID);
    if (step.what == "drop") step.tokens = node.at("first").integer(1, MOST_TOKENS);
    if (step.what == "check prefix")
        for (const Node& id : node.at("ids").items()) step.ids.push_back(id.integer(0, LARGEST_ID));
    return step;
}

void read_prompt(const Node& root, App& app) {
    check_count(root.at("steps"));
    check_count(root.at("mask").at("kept"));
    int place = 0;  // texts come before the one tokenizer, ids behind it
    for (const Node& node : root.at("steps").items()) {
        app.prompt.push_back(read_prompt_step(node));
        const std::string& what = app.prompt.back().what;
        const bool is_of_text = what == "lower" || what == "strip" || what == "wrap", is_tokenizer = what == "tokenize";
        if (is_of_text != (place == 0) && !(is_tokenizer && place == 0)) node.refuse("texts before one \"tokenize\", and ids behind it");
        if (is_tokenizer) place = 1;
    }
    if (place == 0) root.at("steps").refuse("a step \"tokenize\"");
    app.mask_tokens = root.at("mask").at("tokens").integer(1, MOST_TOKENS);
    for (const Node& range : root.at("mask").at("kept").items()) {
        const auto ends = range.items();
        if (ends.size() != 2) range.refuse("a range of two positions");
        const std::int64_t first = ends[0].integer(0, app.mask_tokens - 1);
        app.kept.emplace_back(first, ends[1].integer(first + 1, app.mask_tokens));
    }
    app.vocabulary = root.at("vocabulary").integer(1, LARGEST_ID);
}

void read_sampler(const Node& root, App& app) {
    app.starts_from_noise = root.at("start").choice({"s0*noise", "noise"}) == "noise";
    root.at("next").choice({"(1 - s)*x0 + s*noise"});
    for (const auto& [count, said] : root.at("schedules").members()) {
        Schedule schedule;
        for (const Node& time : said.at("times").items()) schedule.times.push_back(time.number(0, 2));
        for (const Node& row : said.at("rows").items()) schedule.rows.push_back(row.integer(0, MOST_STEPS * MOST_STEPS));
        const std::int64_t steps = read_digits(count);
        const bool fits = static_cast<std::int64_t>(schedule.times.size()) == steps && schedule.rows.size() == schedule.times.size();
        if (steps < 1 || steps > MOST_STEPS || !fits) said.refuse("as many times and rows as its name says steps");
        app.schedules.emplace(static_cast<int>(steps), std::move(schedule));
    }
    app.default_steps = static_cast<int>(root.at("default_steps").integer(1, MOST_STEPS));
    if (app.schedules.count(app.default_steps) == 0) root.at("default_steps").refuse("one of its schedules");
}

// What a network reads as the sampler's state is the noise, with a batch of one before it: else it would be as large as is said.
void check_state(const Node& noise, const App& app) {
    const std::vector<Axis>& free = app.noise_axes;
    for (const Stage& stage : app.stages)
        for (const Graph& graph : stage.graphs)
            for (const Spec& spec : graph.inputs) {
                if (spec.name != app.value("state") || !stage.is_each_step) continue;
                bool fits = spec.axes.size() == app.noise_shape.size() + 1 && (free.empty() || free.size() == app.noise_shape.size());
                for (std::size_t i = 0; fits && i < app.noise_shape.size(); ++i) {
                    const Axis& axis = spec.axes[i + 1];
                    const bool is_same = free.empty() || (free[i].name == axis.name && free[i].size == axis.size);
                    fits = is_same && (axis.name.empty() ? axis.size == app.noise_shape[i] : !free.empty());
                }
                if (!fits) noise.refuse("the shape of \"" + spec.name + "\", which " + stage.network + " reads");
            }
}

void read_files(const Node& root, App& app) {
    if (root.size() > MOST_FILES) root.refuse("at most " + std::to_string(MOST_FILES));
    for (const Node& node : root.items()) {
        FileEntry entry{node.at("path").text(), node.at("sha256").text(), 0};
        entry.bytes = static_cast<std::uintmax_t>(node.at("bytes").integer(0, LARGEST_FILE));
        app.files.push_back(std::move(entry));
    }
    std::set<std::string> names;  // a large file that is named a thousand times would be hashed for hours
    for (const FileEntry& entry : app.files)
        if (!names.insert(entry.path).second) root.refuse("every file once, and not \"" + entry.path + "\" twice");
}

}  // namespace

Shape fill_axes(const std::vector<Axis>& axes, const Units& units) {
    Shape shape;
    for (const Axis& axis : axes) {
        const auto found = units.find(axis.name);
        if (!axis.name.empty() && found == units.end()) throw BundleError("nothing says how large the axis \"" + axis.name + "\" is");
        shape.push_back(axis.name.empty() ? axis.size : axis.size * found->second);
    }
    return shape;
}

const std::string& App::value(const std::string& kind) const {
    static const std::string none;
    const auto found = values.find(kind);
    return found == values.end() ? none : found->second;
}

App read_app(const std::filesystem::path& folder) {
    const std::filesystem::path place = folder / "app.json";
    std::error_code error;
    if (!std::filesystem::exists(place, error))
        throw BundleError(show(place) + " is missing; expected the folder of a bundle. Those of --batch, --layout or some networks alone have none");
    const Document document(read_file(find_file(folder, "app.json"), MOST_BYTES), show(place));
    const Node root = document.root();
    root.at("format").integer(FORMAT, FORMAT);
    App app;
    app.name = root.at("name").text();
    app.target = root.at("target").text();
    const auto size = root.at("size").items();
    if (size.size() != 2) root.at("size").refuse("height and width");
    app.height = size[0].integer(1, MOST_SIZE);
    app.width = size[1].integer(1, MOST_SIZE);
    app.oldest_runtime = root.at("runtimes").text_or("onnxruntime", "");
    read_files(root.at("files"), app);
    read_stages(root, app);
    for (const auto& [kind, name] : root.at("values").members()) app.values.emplace(kind, name.text());
    for (const char* kind : {"ids", "mask", "state", "picture"}) root.at("values").at(kind);
    const auto has_loop = [](const Stage& stage) { return stage.is_each_step; };
    if (std::any_of(app.stages.begin(), app.stages.end(), has_loop))
        for (const char* kind : {"step", "denoised"}) root.at("values").at(kind);
    read_prompt(root.at("prompt"), app);
    read_sampler(root.at("sampler"), app);
    root.at("noise").at("generator").choice({"philox4x32-10 as241"});
    root.at("noise").at("variance").number(1, 1);
    for (const Node& axis : root.at("noise").at("shape").items()) app.noise_shape.push_back(axis.integer(1, MOST_VALUES));
    count_values(app.noise_shape);
    root.at("picture").at("layout").choice({"NCHW RGB"});
    root.at("picture").at("rounding").choice({"half to even"});
    const auto range = root.at("picture").at("range").items();
    if (range.size() != 2) root.at("picture").at("range").refuse("[-1, 1]");
    range[0].number(-1, -1);
    range[1].number(1, 1);
    if (root.has("sizes")) {
        app.noise_axes = read_axes(root.at("sizes").at("noise"));
        app.picture_axes = read_axes(root.at("sizes").at("picture"));
        if (app.picture_axes.size() != 2) root.at("sizes").at("picture").refuse("height and width");
    }
    check_state(root.at("noise"), app);
    app.reference = root.text_or("reference", "");
    return app;
}

}  // namespace sprint_export
