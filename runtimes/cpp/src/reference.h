// A bundle's reference/: what a known prompt and seed gave, stage by stage, held against what is drawn here.
#ifndef SPRINT_EXPORT_REFERENCE_H
#define SPRINT_EXPORT_REFERENCE_H

#include "executor.h"

namespace sprint_export {

struct Drawing {
    Prompt prompt;
    Picture picture;
    std::vector<float> noise;
    std::vector<std::pair<std::string, double>> calls;  // of networks: milliseconds of each, in the order they ran
};
using Draw = std::function<Drawing(const std::string& prompt, const DrawOptions& options, const OnStage& watch)>;

struct Comparing {
    int tolerance = 2;         // of 255
    bool has_further = false;  // whether the drawings of further prompts are made too
    std::string now;           // what draws here
};

// Throws InputError where the bundle has no reference, BundleError where it is damaged.
std::vector<Check> check_reference(const std::filesystem::path& folder, const std::string& file, const Comparing& asked, const Draw& draw);

}  // namespace sprint_export

#endif
