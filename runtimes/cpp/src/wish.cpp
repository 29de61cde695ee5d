#include "wish.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "png_files.h"
#include "resizing.h"

namespace sprint_export {
namespace {

constexpr std::int64_t MOST_NOISE = std::int64_t{1} << 27;  // values, of all steps: half a gigabyte

std::string show_number(double value) {
    std::ostringstream text;
    text << value;
    return text.str();
}

// The units of a side that make so many pixels.
std::int64_t count_units(const std::string& side, const Axis& axis, std::int64_t pixels) {
    if (pixels % axis.size == 0) return pixels / axis.size;
    const std::int64_t below = pixels / axis.size * axis.size;
    const std::string nearest = below > 0 ? std::to_string(below) + " and " + std::to_string(below + axis.size) : std::to_string(axis.size);
    throw InputError(side + "=" + std::to_string(pixels) + ": expected a positive multiple of " + std::to_string(axis.size) +
                     " pixels; the nearest: " + nearest);
}

Units choose_units(const App& app, int height, int width) {
    if (height < 0 || width < 0) throw InputError("height and width are pixels, expected 0 or more");
    const std::int64_t asked[] = {height == 0 ? app.height : height, width == 0 ? app.width : width}, own[] = {app.height, app.width};
    const std::string size = std::to_string(asked[0]) + " x " + std::to_string(asked[1]) + " pixels (height x width)";
    if (asked[0] * asked[1] > static_cast<std::int64_t>(MOST_PIXELS))
        throw InputError(size + ": expected at most " + std::to_string(MOST_PIXELS));
    Units units;
    for (std::size_t i = 0; i < 2; ++i) {
        const bool is_free = !app.picture_axes.empty() && !app.picture_axes[i].name.empty();
        if (is_free)
            units[app.picture_axes[i].name] = count_units(i == 0 ? "height" : "width", app.picture_axes[i], asked[i]);
        else if (asked[i] != own[i])
            throw InputError(size + ": this bundle draws " + std::to_string(own[0]) + " x " + std::to_string(own[1]) +
                             " only; leave the size out, or export with --dynamic");
    }
    return units;
}

// The steps of a schedule that run: all, or, from a picture, as many of its last ones as the strength says.
Schedule choose_schedule(const App& app, const DrawOptions& asked) {
    const auto found = app.schedules.find(asked.steps == 0 ? app.default_steps : asked.steps);
    if (found == app.schedules.end()) {
        std::string listed;
        for (const auto& [steps, unused] : app.schedules) listed += (listed.empty() ? "" : ", ") + std::to_string(steps);
        throw InputError("steps=" + std::to_string(asked.steps) + ", expected one of " + listed);
    }
    Schedule schedule = found->second;
    if (!asked.image) return schedule;
    if (!(asked.strength > 0 && asked.strength <= 1))
        throw InputError("strength=" + show_number(asked.strength) + ": expected more than 0, the picture itself, and at most 1, noise alone");
    const auto steps = static_cast<double>(schedule.times.size());
    const auto left_out = static_cast<std::ptrdiff_t>(std::min(std::floor(steps - steps * asked.strength), steps - 1));
    schedule.times.erase(schedule.times.begin(), schedule.times.begin() + left_out);
    schedule.rows.erase(schedule.rows.begin(), schedule.rows.begin() + left_out);
    return schedule;
}

bool writes(const Stage& stage, const std::string& name) {
    const auto is_this = [&](const Spec& spec) { return spec.name == name; };
    return std::any_of(stage.graphs.begin(), stage.graphs.end(),
                       [&](const Graph& graph) { return std::any_of(graph.outputs.begin(), graph.outputs.end(), is_this); });
}

// How an optional network reads a value that only the caller can give; null where none does.
const Spec* find_given(const App& app, const std::string& name) {
    for (const char* known : {"ids", "mask", "state", "step"})
        if (name == app.value(known)) return nullptr;
    for (const Stage& stage : app.stages)
        if (name.empty() || writes(stage, name)) return nullptr;
    for (const Stage& stage : app.stages)
        for (const Graph& graph : stage.graphs)
            for (const Spec& spec : graph.inputs)
                if (stage.is_optional && spec.name == name) return &spec;
    return nullptr;
}

std::string list_given(const App& app) {
    std::string listed;
    for (const Stage& stage : app.stages)
        for (const Graph& graph : stage.graphs)
            for (const Spec& spec : graph.inputs)
                if (stage.is_optional && find_given(app, spec.name) == &spec) listed += (listed.empty() ? "" : ", ") + spec.name;
    return listed.empty() ? "none" : listed;
}

Tensor read_picture(const App& app, const std::string& name, const Picture& picture, const Units& units) {
    const Spec* spec = find_given(app, app.value("source"));
    const Shape shape = spec == nullptr ? Shape{} : fill_axes(spec->axes, units);
    const bool is_picture = shape.size() == 4 && shape[0] == 1 && shape[1] == 3 && shape[2] > 0 && shape[3] > 0;
    if (!is_picture || shape[2] > static_cast<std::int64_t>(MOST_PIXELS) / shape[3])
        throw BundleError("the networks read a picture of shape " + show_shape(shape) + ", expected [1, 3, height, width]");
    return Tensor::of_floats(fit_picture(name, picture, static_cast<int>(shape[2]), static_cast<int>(shape[3])), shape);
}

}  // namespace

Wish read_wish(const App& app, const DrawOptions& asked, bool has_noise) {
    Wish wish{choose_schedule(app, asked), {}, choose_units(app, asked.height, asked.width), asked.noise, {}};
    wish.shape = app.noise_axes.empty() ? app.noise_shape : fill_axes(app.noise_axes, wish.units);
    wish.shape.insert(wish.shape.begin(), 1);
    const auto steps = static_cast<std::int64_t>(wish.schedule.times.size());
    const std::int64_t count = count_values(wish.shape) * steps;
    if (count > MOST_NOISE)
        throw InputError("noise of " + std::to_string(count) + " values in " + std::to_string(steps) + " steps, expected at most " +
                         std::to_string(MOST_NOISE) + "; ask for a smaller picture or fewer steps");
    if (!has_noise) return wish;
    if (wish.noise.empty()) wish.noise = make_noise(asked.seed, static_cast<std::size_t>(count));
    if (wish.noise.size() != static_cast<std::size_t>(count))
        throw InputError("noise has " + std::to_string(wish.noise.size()) + " values, expected " + std::to_string(count));
    return wish;
}

Values read_given(const App& app, const DrawOptions& asked, const Units& units) {
    Values given;
    for (const auto& [name, values] : asked.inputs) {
        const Spec* spec = find_given(app, name);
        if (spec == nullptr) throw InputError("inputs: no network takes \"" + name + "\"; those that can be given: " + list_given(app));
        const Shape shape = fill_axes(spec->axes, units);
        if (static_cast<std::int64_t>(values.size()) != count_values(shape))
            throw InputError("inputs: \"" + name + "\" has " + std::to_string(values.size()) + " values, expected " + show_shape(shape));
        given.insert_or_assign(name, Tensor::of_floats(values, shape));
    }
    if (asked.control) {
        if (find_given(app, app.value("scale")) == nullptr)
            throw InputError("control: no network here takes a control picture; export a student with a ControlNet (--controlnet)");
        if (!std::isfinite(asked.control_scale)) throw InputError("control_scale: expected a number, 1 as trained");
        given.emplace(app.value("source"), read_picture(app, "control", *asked.control, units));
        given.emplace(app.value("scale"), Tensor::of_floats({asked.control_scale}, {1}));
    } else if (!given.empty() && find_given(app, app.value("scale")) != nullptr) {
        given.emplace(app.value("scale"), Tensor::of_floats({1.0F}, {1}));
    }
    return given;
}

std::optional<Tensor> read_start(const App& app, const DrawOptions& asked, const Units& units) {
    if (!asked.image) return std::nullopt;
    if (find_encoder(app) == nullptr) throw InputError("image: no network here encodes pictures; export the student with --image-to-image");
    return read_picture(app, "image", *asked.image, units);
}

const Stage* find_encoder(const App& app) {
    const std::string& name = app.value("encoded");
    const auto found = std::find_if(app.stages.rbegin(), app.stages.rend(),
                                    [&](const Stage& stage) { return stage.is_optional && !name.empty() && writes(stage, name); });
    return found == app.stages.rend() ? nullptr : &*found;
}

}  // namespace sprint_export
