// Prompts to ids and mask, by the steps that app.json lists.
#ifndef SPRINT_EXPORT_PROMPT_H
#define SPRINT_EXPORT_PROMPT_H

#include <filesystem>
#include <memory>
#include <string>

#include "app.h"
#include "sprint_export/sprint_export.h"
#include "tokenizer.h"

namespace sprint_export {

class PromptReader {
public:
    PromptReader(const std::filesystem::path& folder, const App& app);  // throws BundleError

    // Throws InputError where the prompt is no UTF-8, too long, or changes the ids of a prefix that the encoder holds.
    Prompt read(const std::string& prompt) const;

private:
    void change(const PromptStep& step, Ids& ids, std::int64_t& padding) const;

    const App& app_;
    std::unique_ptr<Tokenizer> tokenizer_;
};

}  // namespace sprint_export

#endif
