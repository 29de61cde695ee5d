#include "prompt.h"

#include <algorithm>

#include "files.h"
#include "unicode.h"

namespace sprint_export {
namespace {

constexpr std::uintmax_t LARGEST_TOKENIZER = 64 << 20;  // bytes; the largest vocabularies, of 262,000 words, have 33 million

}  // namespace

PromptReader::PromptReader(const std::filesystem::path& folder, const App& app) : app_(app) {
    for (const PromptStep& step : app.prompt) {
        if (step.what != "tokenize") continue;
        const auto file = find_file(folder, step.text);
        const Document document(read_file(file, LARGEST_TOKENIZER), show(file));
        try {
            tokenizer_ = std::make_unique<Tokenizer>(document.root());
        } catch (const InputError& error) {  // a text of its own that is no UTF-8
            throw BundleError(show(file) + ": " + error.what());
        }
    }
}

Prompt PromptReader::read(const std::string& prompt) const {
    std::u32string text = decode_utf8(prompt);
    Ids ids;
    std::int64_t padding = 0;
    for (const PromptStep& step : app_.prompt) {
        if (step.what == "lower")
            text = lower(text);
        else if (step.what == "strip")
            text = strip(text, decode_utf8(step.text));
        else if (step.what == "wrap")
            text = decode_utf8(step.text) + text + decode_utf8(step.behind);
        else if (step.what == "tokenize")
            ids = tokenizer_->encode(text);
        else
            change(step, ids, padding);
    }
    for (const std::int64_t id : ids)
        if (id < 0 || id >= app_.vocabulary)
            throw BundleError("the tokenizer gives id " + std::to_string(id) + ", the text encoder knows 0 to " +
                              std::to_string(app_.vocabulary - 1) + ": they do not belong together");
    Prompt read{std::move(ids), {}};
    for (const auto& [first, end] : app_.kept)
        for (std::int64_t i = first; i < end; ++i) read.mask.push_back(i < app_.mask_tokens - padding ? 1 : 0);
    return read;
}

void PromptReader::change(const PromptStep& step, Ids& ids, std::int64_t& padding) const {
    const auto count = static_cast<std::int64_t>(ids.size());
    if (step.what == "cut") {  // what the tokenizer puts behind a text stays
        if (count > step.tokens) ids.erase(ids.begin() + (step.tokens - step.id), ids.end() - step.id);
    } else if (step.what == "refuse longer") {
        if (count > step.tokens)
            throw InputError("the prompt takes " + std::to_string(count) + " tokens, expected at most " + std::to_string(step.tokens) +
                             "; shorten it");
    } else if (step.what == "check prefix") {
        const auto different = std::mismatch(step.ids.begin(), step.ids.end(), ids.begin(), ids.end()).first;
        if (different != step.ids.end())
            throw InputError("the tokenizer joins the prompt to the instruction before it: token " +
                             std::to_string(different - step.ids.begin()) + " is not " + std::to_string(*different) +
                             ", for which the text encoder holds constants; begin the prompt with another character");
    } else if (step.what == "pad") {
        padding = std::max<std::int64_t>(step.tokens - count, 0);
        ids.insert(ids.end(), static_cast<std::size_t>(padding), step.id);
    } else {  // drop
        ids.erase(ids.begin(), ids.begin() + std::min(step.tokens, count));
    }
}

}  // namespace sprint_export
