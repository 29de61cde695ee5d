#include "executor.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "files.h"

namespace sprint_export {
namespace {

void check_finite(const std::string& network, const Values& written) {
    for (const auto& [name, tensor] : written) {
        if (!tensor.is_float()) continue;
        const std::vector<float> values = tensor.floats();
        const auto bad = std::count_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
        if (bad != 0)
            throw BundleError(network + " gave " + std::to_string(bad) + " of " + std::to_string(values.size()) + " values of \"" + name +
                              "\" that are NaN or infinite: its weights are damaged or too large for the type it computes in");
    }
}

// a*x + b*y in float32, each product rounded: as numpy computes it.
std::vector<float> blend(float a, const std::vector<float>& x, float b, const float* y) {
    std::vector<float> sum(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) sum[i] = a * x[i] + b * y[i];
    return sum;
}

void check_shape(const std::string& name, const Tensor& tensor, const Shape& expected) {
    if (tensor.shape != expected)
        throw BundleError("\"" + name + "\" has shape " + show_shape(tensor.shape) + ", expected " + show_shape(expected));
}

}  // namespace

Executor::Executor(const std::filesystem::path& folder, const App& app, Runtime& runtime, bool one_at_a_time)
    : folder_(folder), app_(app), runtime_(runtime), one_at_a_time_(one_at_a_time) {}

void Executor::load(const Stage& stage) {
    if (one_at_a_time_) {  // networks of the loop stay together
        for (const Stage& other : app_.stages)
            if (other.network != stage.network && !(other.is_each_step && stage.is_each_step)) sessions_.erase(other.network);
    }
    auto& sessions = sessions_[stage.network];
    for (std::size_t i = sessions.size(); i < stage.graphs.size(); ++i)
        sessions.push_back(runtime_.open(find_file(folder_, stage.graphs[i].path), stage.graphs[i]));
}

std::vector<float> Executor::encode(const Stage& encoder, const Tensor& picture, const Shape& shape, const OnStage& on_stage) {
    const Values written = run_stage(encoder, {{app_.value("source"), picture}}, -1, on_stage);
    const auto found = written.find(app_.value("encoded"));
    if (found == written.end()) throw BundleError("no network writes \"" + app_.value("encoded") + "\"; export the bundle again");
    check_shape(app_.value("encoded"), found->second, shape);
    return found->second.floats();
}

Values Executor::run(Values table, const Wish& wish, const OnStage& on_stage) {
    const auto is_loop = [](const Stage& stage) { return stage.is_each_step; };
    const auto first = std::find_if(app_.stages.begin(), app_.stages.end(), is_loop);
    const auto end = std::find_if_not(first, app_.stages.end(), is_loop);
    if (first == end) table.insert_or_assign(app_.value("state"), Tensor::of_floats(start(wish), wish.shape));  // one graph does it all
    run_stages({app_.stages.begin(), first}, table, -1, on_stage);
    if (first != end) {
        Tensor denoised = run_loop({first, end}, table, wish, on_stage);
        table.insert_or_assign(app_.value("state"), std::move(denoised));
    }
    run_stages({end, app_.stages.end()}, table, -1, on_stage);
    if (table.count(app_.value("picture")) == 0) throw BundleError("no network writes \"" + app_.value("picture") + "\"; export the bundle again");
    return table;
}

std::vector<float> Executor::start(const Wish& wish) const {
    const double s = wish.schedule.times[0];
    if (!wish.encoded.empty()) return blend(static_cast<float>(1 - s), wish.encoded, static_cast<float>(s), wish.noise.data());
    std::vector<float> x(wish.noise.begin(), wish.noise.begin() + count_values(wish.shape));
    if (!app_.starts_from_noise)
        for (float& value : x) value *= static_cast<float>(s);
    return x;
}

Tensor Executor::run_loop(const Stages& stages, const Values& before, const Wish& wish, const OnStage& on_stage) {
    const auto count = static_cast<std::size_t>(count_values(wish.shape)), steps = wish.schedule.times.size();
    const std::string& name = app_.value("denoised");
    std::vector<float> x = start(wish);
    for (std::size_t i = 0;; ++i) {
        Values table = before;  // what a step writes is not there in the next one
        table.insert_or_assign(app_.value("state"), Tensor::of_floats(x, wish.shape));
        table.insert_or_assign(app_.value("step"), Tensor::of_integers({wish.schedule.rows[i]}, {1}));
        run_stages(stages, table, static_cast<int>(i), on_stage);
        const auto denoised = table.find(name);
        if (denoised == table.end()) throw BundleError("no network writes \"" + name + "\"; export the bundle again");
        check_shape(name, denoised->second, wish.shape);
        if (i + 1 == steps) return denoised->second;
        const double s = wish.schedule.times[i + 1];
        x = blend(static_cast<float>(1 - s), denoised->second.floats(), static_cast<float>(s), wish.noise.data() + (i + 1) * count);
    }
}

void Executor::run_stages(const Stages& stages, Values& table, int step, const OnStage& on_stage) {
    for (auto stage = stages.first; stage != stages.second; ++stage)
        for (auto& [name, tensor] : run_stage(*stage, table, step, on_stage)) table.insert_or_assign(name, tensor);
}

Values Executor::run_stage(const Stage& stage, const Values& table, int step, const OnStage& on_stage) {
    Values known, written;
    for (const Graph& graph : stage.graphs)
        for (const Spec& spec : graph.inputs) {
            const auto found = table.find(spec.name);
            if (found != table.end()) known.emplace(spec.name, found->second);
        }
    for (const Graph& graph : stage.graphs)
        for (const Spec& spec : graph.inputs) {
            const bool is_made = std::any_of(stage.graphs.begin(), stage.graphs.end(), [&](const Graph& other) {
                return std::any_of(other.outputs.begin(), other.outputs.end(), [&](const Spec& made) { return made.name == spec.name; });
            });
            if (known.count(spec.name) != 0 || is_made) continue;
            if (stage.is_optional) return {};
            known.emplace(spec.name, fill(spec, table));
        }
    load(stage);
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < stage.graphs.size(); ++i) {
        written = sessions_.at(stage.network)[i]->run(known);
        for (const auto& [name, tensor] : written) known.insert_or_assign(name, tensor);
    }
    const std::chrono::duration<double, std::milli> passed = std::chrono::steady_clock::now() - start;
    check_finite(stage.network, written);
    on_stage(stage, step, written, passed.count());
    return written;
}

Tensor Executor::fill(const Spec& spec, const Values& table) const {
    if (std::none_of(app_.stages.begin(), app_.stages.end(), [](const Stage& stage) { return stage.is_optional; }))
        throw BundleError("no network writes \"" + spec.name + "\", which another one reads; export the bundle again");
    const auto state = table.find(app_.value("state"));
    return Tensor::zeros(spec.type, fill_axes(spec.axes, state == table.end() ? Units{} : find_units(app_.noise_axes, state->second.shape)));
}

Units find_units(const std::vector<Axis>& axes, const Shape& shape) {
    Units units;
    for (std::size_t i = 0; i < axes.size() && i + 1 < shape.size(); ++i)  // a batch of one stands before them
        if (!axes[i].name.empty()) units[axes[i].name] = shape[i + 1] / axes[i].size;
    return units;
}

Picture make_picture(const Tensor& image) {
    if (image.shape.size() != 4 || image.shape[0] != 1 || image.shape[1] != 3)
        throw BundleError("the picture has shape " + show_shape(image.shape) + ", expected [1, 3, height, width]");
    const std::vector<float> values = image.floats();
    Picture picture;
    picture.height = static_cast<int>(image.shape[2]);
    picture.width = static_cast<int>(image.shape[3]);
    picture.rgb.resize(values.size());
    const std::size_t pixels = values.size() / 3;
    for (std::size_t channel = 0; channel < 3; ++channel)
        for (std::size_t i = 0; i < pixels; ++i) {
            const float unit = std::clamp(values[channel * pixels + i] * 0.5F + 0.5F, 0.0F, 1.0F) * 255.0F;
            const float below = std::floor(unit), rest = unit - below;  // exact, whatever the rounding mode
            const bool is_odd = static_cast<int>(below) % 2 != 0;
            picture.rgb[3 * i + channel] = static_cast<std::uint8_t>(below + (rest > 0.5F || (rest == 0.5F && is_odd) ? 1.0F : 0.0F));
        }
    return picture;
}

}  // namespace sprint_export
