// The stages of app.json over sessions: values by name, the sampler's loop, and pictures of what the last network gives.
#ifndef SPRINT_EXPORT_EXECUTOR_H
#define SPRINT_EXPORT_EXECUTOR_H

#include <functional>

#include "app.h"
#include "sessions.h"

namespace sprint_export {

// Told each stage that ran, with what it wrote; the step is -1 outside the loop.
using OnStage = std::function<void(const Stage& stage, int step, const Values& written, double milliseconds)>;

struct Wish {  // what is drawn; checked before a network runs (wish.h)
    Schedule schedule;  // of the steps that run
    Shape shape;        // of one step's noise, a batch of one before it
    Units units;
    std::vector<float> noise;    // one step's values after the other's
    std::vector<float> encoded;  // the state without noise of a picture to start from; empty: noise alone
};

class Executor {
public:
    Executor(const std::filesystem::path& folder, const App& app, Runtime& runtime, bool one_at_a_time);

    void load(const Stage& stage);  // its sessions, unless they are there

    // The state without noise of a picture [1, 3, H, W], of `shape`, by the stage that writes it.
    std::vector<float> encode(const Stage& encoder, const Tensor& picture, const Shape& shape, const OnStage& on_stage);

    // The values at the end, the picture among them. `table` has ids, mask and what optional networks are given.
    Values run(Values table, const Wish& wish, const OnStage& on_stage);

private:
    using Stages = std::pair<std::vector<Stage>::const_iterator, std::vector<Stage>::const_iterator>;

    std::vector<float> start(const Wish& wish) const;
    Tensor run_loop(const Stages& stages, const Values& before, const Wish& wish, const OnStage& on_stage);  // x0
    void run_stages(const Stages& stages, Values& table, int step, const OnStage& on_stage);
    Values run_stage(const Stage& stage, const Values& table, int step, const OnStage& on_stage);
    Tensor fill(const Spec& spec, const Values& table) const;

    const std::filesystem::path& folder_;
    const App& app_;
    Runtime& runtime_;
    bool one_at_a_time_;
    std::map<std::string, std::vector<std::unique_ptr<Session>>> sessions_;  // by network
};

Units find_units(const std::vector<Axis>& axes, const Shape& shape);  // of free axes, by a shape

Picture make_picture(const Tensor& image);  // of floats [1, 3, H, W] in [-1, 1], rounded half to even

}  // namespace sprint_export

#endif
