#include <algorithm>
#include <chrono>

#include "executor.h"
#include "files.h"
#include "prompt.h"
#include "reference.h"

namespace fs = std::filesystem;

namespace sprint_export {
namespace {

Units choose_units(const App& app, int height, int width) {
    if (height < 0 || width < 0) throw InputError("height and width are pixels, expected 0 or more");
    const std::int64_t asked[] = {height == 0 ? app.height : height, width == 0 ? app.width : width}, own[] = {app.height, app.width};
    Units units;
    for (std::size_t i = 0; i < 2; ++i) {
        const bool is_free = !app.picture_axes.empty() && !app.picture_axes[i].name.empty();
        if (is_free && asked[i] % app.picture_axes[i].size == 0)
            units[app.picture_axes[i].name] = asked[i] / app.picture_axes[i].size;
        else if (is_free || asked[i] != own[i])
            throw InputError("a picture of " + std::to_string(asked[0]) + " by " + std::to_string(asked[1]) + " pixels, expected " +
                             (is_free ? "multiples of " + std::to_string(app.picture_axes[i].size)
                                      : std::to_string(own[0]) + " by " + std::to_string(own[1])));
    }
    return units;
}

Wish choose(const App& app, const DrawOptions& options) {
    const auto schedule = app.schedules.find(options.steps == 0 ? app.default_steps : options.steps);
    if (schedule == app.schedules.end()) {
        std::string listed;
        for (const auto& [steps, unused] : app.schedules) listed += (listed.empty() ? "" : ", ") + std::to_string(steps);
        throw InputError("steps=" + std::to_string(options.steps) + ", expected one of " + listed);
    }
    Wish wish{schedule->second, {}, choose_units(app, options.height, options.width), options.noise};
    wish.shape = app.noise_axes.empty() ? app.noise_shape : fill_axes(app.noise_axes, wish.units);
    wish.shape.insert(wish.shape.begin(), 1);
    const auto count = static_cast<std::size_t>(count_values(wish.shape)) * wish.schedule.times.size();
    if (wish.noise.empty()) wish.noise = make_noise(options.seed, count);
    if (wish.noise.size() != count)
        throw InputError("noise has " + std::to_string(wish.noise.size()) + " values, expected " + std::to_string(count));
    return wish;
}

}  // namespace

struct Pipeline::Parts {
    Parts(const fs::path& path, const Options& asked)
        : folder(path), options(asked), app(read_app(path)), runtime(open_runtime(asked, app.oldest_runtime)) {
        check_files();
        reader = std::make_unique<PromptReader>(folder, app);
        executor = std::make_unique<Executor>(folder, app, *runtime, options.one_at_a_time);
        for (std::size_t i = 0; i < app.stages.size() && !options.one_at_a_time; ++i) {
            tell(options.on_progress, {"loading", app.stages[i].network, i, app.stages.size()});
            executor->load(app.stages[i]);
        }
    }

    void check_files() const {
        std::size_t done = 0;
        for (const FileEntry& entry : app.files) {
            const fs::path file = find_file(folder, entry.path);
            std::error_code error;
            const std::uintmax_t bytes = fs::file_size(file, error);
            if (bytes != entry.bytes)
                throw BundleError(show(file) + " has " + std::to_string(bytes) + " bytes, expected " + std::to_string(entry.bytes) +
                                  "; copy the bundle again");
            const auto go_on = [&] { tell(options.on_progress, {"checking", entry.path, done, app.files.size()}); };
            if (options.verify && hash_file(file, go_on) != entry.sha256)
                throw BundleError(show(file) + " was altered: its SHA-256 is not the one in app.json; copy the bundle again");
            ++done;
        }
    }

    void tell(const OnProgress& on_progress, const Progress& progress) const {
        const bool goes_on = !on_progress || on_progress(progress);
        if (!goes_on || runtime->is_stopped()) throw Stopped("stopped while " + progress.stage + " " + progress.what);
    }

    // What optional networks are given, and the scale of it, which is 1 where it is not said.
    void add_inputs(const DrawOptions& asked, const Wish& wish, Values& table) const {
        auto given = asked.inputs;
        const std::string& scale = app.value("scale");
        if (!given.empty() && !scale.empty()) given.emplace(scale, std::vector<float>{1.0F});
        for (const auto& [name, values] : given) {
            const Spec* spec = find_optional_input(name);
            if (spec == nullptr) throw InputError("inputs: no network takes \"" + name + "\" from outside");
            const Shape shape = fill_axes(spec->axes, wish.units);
            if (static_cast<std::int64_t>(values.size()) != count_values(shape))
                throw InputError("inputs: \"" + name + "\" has " + std::to_string(values.size()) + " values, expected " + show_shape(shape));
            table.insert_or_assign(name, Tensor::of_floats(values, shape));
        }
    }

    const Spec* find_optional_input(const std::string& name) const {
        for (const char* known : {"ids", "mask", "state", "step"})
            if (name == app.value(known)) return nullptr;
        for (const Stage& stage : app.stages)
            for (const Graph& graph : stage.graphs)
                for (const Spec& spec : graph.inputs)
                    if (stage.is_optional && spec.name == name) return &spec;
        return nullptr;
    }

    Picture draw(const std::string& prompt, const DrawOptions& asked, const OnStage& watch) {
        const Wish wish = choose(app, asked);
        const Prompt read = reader->read(prompt);
        Values table;
        table.emplace(app.value("ids"), Tensor::of_integers(read.ids, {1, static_cast<std::int64_t>(read.ids.size())}));
        table.emplace(app.value("mask"), Tensor::of_integers(read.mask, {1, static_cast<std::int64_t>(read.mask.size())}));
        add_inputs(asked, wish, table);
        std::size_t total = 0, done = 0;
        for (const Stage& stage : app.stages) total += stage.is_each_step ? wish.schedule.times.size() : 1;
        std::vector<std::pair<std::string, double>> milliseconds = {{"total", 0}};
        const auto start = std::chrono::steady_clock::now();
        tell(asked.on_progress, {"drawing", app.stages.front().network, 0, total});
        const OnStage on_stage = [&](const Stage& stage, int step, const Values& written, double passed) {
            const auto known = std::find_if(milliseconds.begin(), milliseconds.end(), [&](const auto& row) { return row.first == stage.network; });
            if (known == milliseconds.end())
                milliseconds.emplace_back(stage.network, passed);
            else
                known->second += passed;
            if (watch) watch(stage, step, written, passed);
            tell(asked.on_progress, {"drawing", stage.network, ++done, total});
        };
        const Values values = executor->run(std::move(table), wish, on_stage);
        Picture picture = make_picture(values.at(app.value("picture")));
        picture.seed = asked.seed;
        milliseconds[0].second = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
        picture.milliseconds = std::move(milliseconds);
        return picture;
    }

    fs::path folder;
    Options options;
    App app;
    std::unique_ptr<Runtime> runtime;  // outlives the executor's sessions
    std::unique_ptr<PromptReader> reader;
    std::unique_ptr<Executor> executor;
};

Pipeline::Pipeline(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Pipeline::Pipeline(Pipeline&&) noexcept = default;
Pipeline& Pipeline::operator=(Pipeline&&) noexcept = default;
Pipeline::~Pipeline() = default;

Pipeline Pipeline::open(const fs::path& folder, const Options& options) {
    return Pipeline(std::make_unique<Parts>(folder, options));
}

Picture Pipeline::draw(const std::string& prompt, const DrawOptions& options) {
    parts_->runtime->reset();
    return parts_->draw(prompt, options, nullptr);
}

Prompt Pipeline::encode(const std::string& prompt) const { return parts_->reader->read(prompt); }

std::vector<Check> Pipeline::check(int tolerance) {
    parts_->runtime->reset();
    const Draw draw = [this](const std::string& prompt, const DrawOptions& options, const OnStage& watch) {
        return Drawing{parts_->reader->read(prompt), parts_->draw(prompt, options, watch), choose(parts_->app, options).noise};
    };
    return check_reference(parts_->folder, parts_->app.reference, tolerance, draw);
}

void Pipeline::stop() { parts_->runtime->stop(); }

const std::string& Pipeline::name() const { return parts_->app.name; }

std::vector<int> Pipeline::steps() const {
    std::vector<int> counts = {parts_->app.default_steps};
    for (const auto& [steps, schedule] : parts_->app.schedules)
        if (steps != counts[0]) counts.push_back(steps);
    return counts;
}

}  // namespace sprint_export
