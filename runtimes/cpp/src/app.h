// app.json as a value: what an app needs to draw, checked while it is read.
#ifndef SPRINT_EXPORT_APP_H
#define SPRINT_EXPORT_APP_H

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tensor.h"

namespace sprint_export {

struct Axis {  // a size, or so many units of a free axis
    std::int64_t size = 0;
    std::string name;  // of the free axis; empty: none
};
using Units = std::map<std::string, std::int64_t>;  // of free axes
Shape fill_axes(const std::vector<Axis>& axes, const Units& units);  // throws BundleError where an axis is not known

struct Spec {
    std::string name;
    Type type = Type::float32;
    std::vector<Axis> axes;
};

struct Graph {
    std::string path;
    std::vector<Spec> inputs, outputs;
};

struct Stage {
    std::string network;
    std::vector<Graph> graphs;  // run in this order; the last one's outputs are the network's
    bool is_each_step = false, is_optional = false;
};

struct PromptStep {
    std::string what;            // "lower", "strip", "wrap", "tokenize", "cut", "refuse longer", "check prefix", "pad" or "drop"
    std::string text, behind;    // characters to strip; prefix and suffix; a file
    std::int64_t tokens = 0;     // of a cut, a pad, or the longest; how many are dropped
    std::int64_t id = 0;         // to pad with; how many ids behind a text stay where it is cut
    std::vector<std::int64_t> ids;
};

struct Schedule {
    std::vector<double> times;
    std::vector<std::int64_t> rows;
};

struct FileEntry {
    std::string path, sha256;
    std::uintmax_t bytes = 0;
};

struct App {
    std::string name, target, reference;  // reference is empty where there is none
    std::int64_t height = 0, width = 0;
    std::string oldest_runtime;
    std::vector<FileEntry> files;
    std::vector<Stage> stages;
    std::map<std::string, std::string> values;  // what the prompt, the sampler and the picture are called among the networks' values
    std::vector<PromptStep> prompt;
    std::int64_t mask_tokens = 0, vocabulary = 0;
    std::vector<std::pair<std::int64_t, std::int64_t>> kept;  // ranges of the mask
    bool starts_from_noise = false;
    int default_steps = 1;
    std::map<int, Schedule> schedules;
    Shape noise_shape;
    std::vector<Axis> noise_axes, picture_axes;  // free sizes; empty: there is one

    const std::string& value(const std::string& name) const;  // empty where a bundle has none of that kind
};

App read_app(const std::filesystem::path& folder);  // throws BundleError

}  // namespace sprint_export

#endif
