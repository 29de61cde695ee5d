// What an app does: open, draw, ask for progress, stop.
#include <iostream>
#include <map>
#include <string>

#include <sprint_export/sprint_export.h>

int main(int count, char** arguments) {
    if (count != 2) return 2;
    std::map<std::string, std::string> last;  // what each stage of opening said last
    sprint_export::Options whole;
    whole.on_progress = [&last](const sprint_export::Progress& progress) {
        last[progress.stage] = std::to_string(progress.done) + "/" + std::to_string(progress.total);
        return true;
    };
    sprint_export::Pipeline::open(arguments[1], whole);
    for (const auto& [stage, done] : last) std::cout << stage << " " << done << "\n";
    sprint_export::Options options;
    options.one_at_a_time = true;
    sprint_export::Pipeline pipeline = sprint_export::Pipeline::open(arguments[1], options);
    sprint_export::DrawOptions draw;
    draw.seed = 3;
    draw.on_progress = [](const sprint_export::Progress& progress) {
        std::cout << progress.what << " " << progress.done << "/" << progress.total << "\n";
        return true;
    };
    const sprint_export::Picture picture = pipeline.draw("a red circle", draw);
    std::cout << picture.width << "x" << picture.height << "\n";
    draw.on_progress = [](const sprint_export::Progress& progress) { return progress.done < 1; };
    try {
        pipeline.draw("a red circle", draw);
    } catch (const sprint_export::Stopped& stopped) {
        std::cout << stopped.what() << "\n";
    }
    sprint_export::MeasureOptions measure;
    measure.on_progress = [](const sprint_export::Progress& progress) { return progress.what != "transformer"; };
    try {
        pipeline.measure(measure);
    } catch (const sprint_export::Stopped& stopped) {
        std::cout << stopped.what() << "\n";
    }
    return pipeline.draw("a red circle", {}).rgb.size() == picture.rgb.size() ? 0 : 1;
}
