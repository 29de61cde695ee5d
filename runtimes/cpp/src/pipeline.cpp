#include <algorithm>
#include <chrono>

#include "executor.h"
#include "files.h"
#include "identity.h"
#include "measuring.h"
#include "prompt.h"
#include "reference.h"
#include "wish.h"

namespace fs = std::filesystem;

namespace sprint_export {
namespace {

using Clock = std::chrono::steady_clock;

double count_milliseconds(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

void add_time(std::vector<std::pair<std::string, double>>& milliseconds, const std::string& network, double passed) {
    const auto known = std::find_if(milliseconds.begin(), milliseconds.end(), [&](const auto& row) { return row.first == network; });
    if (known == milliseconds.end())
        milliseconds.emplace_back(network, passed);
    else
        known->second += passed;
}

}  // namespace

struct Pipeline::Parts {
    Parts(const fs::path& path, const Options& asked)
        : opened(Clock::now()), folder(path), options(asked), app(read_app(path)), runtime(open_runtime(asked, app.oldest_runtime)) {
        check_files();
        reader = std::make_unique<PromptReader>(folder, app);
        executor = std::make_unique<Executor>(folder, app, *runtime, options.one_at_a_time);
        for (std::size_t i = 0; i < app.stages.size() && !options.one_at_a_time; ++i) {
            tell(options.on_progress, {"loading", app.stages[i].network, i, app.stages.size()});
            executor->load(app.stages[i]);
            tell(options.on_progress, {"loading", app.stages[i].network, i + 1, app.stages.size()});
        }
        open_milliseconds = count_milliseconds(opened);
    }

    void check_files() const {
        std::size_t done = 0;
        if (options.verify) check_description(folder);
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
            go_on();
        }
    }

    void tell(const OnProgress& on_progress, const Progress& progress) const {
        const bool goes_on = !on_progress || on_progress(progress);
        if (!goes_on || runtime->is_stopped()) throw Stopped("stopped while " + progress.stage + " " + progress.what);
    }

    Drawing draw(const std::string& prompt, const DrawOptions& asked, const OnStage& watch) {
        const auto start = Clock::now();
        Wish wish = read_wish(app, asked);
        Prompt read = reader->read(prompt);
        Values table = read_given(app, asked, wish.units);
        const std::optional<Tensor> given = read_start(app, asked, wish.units);
        std::size_t total = given ? 1 : 0, done = 0;
        for (const Stage& stage : app.stages)
            if (!stage.is_optional || !table.empty()) total += stage.is_each_step ? wish.schedule.times.size() : 1;
        table.insert_or_assign(app.value("ids"), Tensor::of_integers(read.ids, {1, static_cast<std::int64_t>(read.ids.size())}));
        table.insert_or_assign(app.value("mask"), Tensor::of_integers(read.mask, {1, static_cast<std::int64_t>(read.mask.size())}));
        Drawing drawing{std::move(read), {}, {}, {}};
        std::vector<std::pair<std::string, double>> milliseconds = {{"total", 0}};
        tell(asked.on_progress, {"drawing", app.stages.front().network, 0, total});
        const OnStage on_stage = [&](const Stage& stage, int step, const Values& written, double passed) {
            add_time(milliseconds, stage.network, passed);
            drawing.calls.emplace_back(stage.network, passed);
            if (watch) watch(stage, step, written, passed);
            tell(asked.on_progress, {"drawing", stage.network, ++done, total});
        };
        if (given) wish.encoded = executor->encode(*find_encoder(app), *given, wish.shape, on_stage);
        const Values values = executor->run(std::move(table), wish, on_stage);
        drawing.picture = make_picture(values.at(app.value("picture")));
        drawing.picture.seed = asked.seed;
        drawing.noise = std::move(wish.noise);
        milliseconds[0].second = count_milliseconds(start);
        drawing.picture.milliseconds = std::move(milliseconds);
        has_drawn = true;
        return drawing;
    }

    // As the Python package says it, so that results stand beside each other.
    std::string describe() const {
        return "ONNX Runtime " + runtime->version() + " " + (options.provider == "cpu" ? "CPU" : options.provider) + ", C++";
    }

    Draw make_draw() {
        return [this](const std::string& prompt, const DrawOptions& asked, const OnStage& watch) { return draw(prompt, asked, watch); };
    }

    Clock::time_point opened;
    double open_milliseconds = 0;
    bool has_drawn = false;
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
    return parts_->draw(prompt, options, nullptr).picture;
}

Prompt Pipeline::encode(const std::string& prompt) const { return parts_->reader->read(prompt); }

double Pipeline::find_first_time(const DrawOptions& options) const {
    const Wish wish = read_wish(parts_->app, options, false);
    read_given(parts_->app, options, wish.units);
    read_start(parts_->app, options, wish.units);
    return wish.schedule.times[0];
}

std::vector<Check> Pipeline::check(int tolerance) {
    parts_->runtime->reset();
    return check_reference(parts_->folder, parts_->app.reference, {tolerance, false, parts_->describe()}, parts_->make_draw());
}

DeviceResult Pipeline::measure(const MeasureOptions& options) {
    parts_->runtime->reset();
    Measured measured{parts_->folder, parts_->app, parts_->options.provider, parts_->runtime->version(), parts_->describe(), {}};
    if (!parts_->has_drawn) measured.start = {options.began.value_or(parts_->opened), parts_->open_milliseconds};
    const Draw draw = [&](const std::string& prompt, DrawOptions asked, const OnStage& watch) {
        asked.on_progress = options.on_progress;
        return parts_->draw(prompt, asked, watch);
    };
    return measure_device(measured, options, draw);
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
