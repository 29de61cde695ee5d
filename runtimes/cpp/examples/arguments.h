// The command line of sprint-draw as values, checked before anything is opened.
#ifndef SPRINT_EXPORT_EXAMPLES_ARGUMENTS_H
#define SPRINT_EXPORT_EXAMPLES_ARGUMENTS_H

#include <string>
#include <vector>

#include <sprint_export/sprint_export.h>

extern const char* const USAGE;

struct Asked {
    std::string bundle, prompt, out, image, control;  // out is empty where none was named
    sprint_export::Options options;
    sprint_export::DrawOptions draw;
    sprint_export::MeasureOptions measure;
    bool checks = false, times = false, shows_times = false, shows_help = false;

    bool draws() const { return !checks && !times; }
};

// Throws InputError with one line.
Asked read_arguments(const std::vector<std::string>& arguments);

#endif
