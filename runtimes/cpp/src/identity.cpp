#include "identity.h"

#include <algorithm>
#include <map>

#include <nlohmann/json.hpp>

#include "files.h"
#include "json.h"

namespace fs = std::filesystem;

namespace sprint_export {
namespace {

constexpr const char* MANIFEST = "bundle.json";
constexpr const char* DESCRIPTION = "app.json";
constexpr std::uintmax_t LARGEST_MANIFEST = 16 << 20;
constexpr std::size_t MOST_FILES = 10000;

void check_named(const std::map<std::string, std::string>& named, const std::string& path, const std::string& sha256) {
    const auto found = named.find(path);
    if (found == named.end() || found->second != sha256)
        throw BundleError(path + " is not the one that " + MANIFEST + " names; it was altered: copy the bundle again");
}

std::map<std::string, std::string> list_named(const Node& root) {
    std::map<std::string, std::string> named;
    const std::vector<Node> artifacts = root.at("artifacts").items();
    if (artifacts.size() > MOST_FILES) root.at("artifacts").refuse("at most " + std::to_string(MOST_FILES) + " files");
    for (const Node& artifact : artifacts) named.emplace(artifact.at("path").text(), artifact.at("sha256").text());
    return named;
}

}  // namespace

void check_description(const fs::path& folder) {
    std::error_code error;
    if (!fs::exists(folder / MANIFEST, error)) return;
    const Document document(read_file(find_file(folder, MANIFEST), LARGEST_MANIFEST), MANIFEST);
    check_named(list_named(document.root()), DESCRIPTION, hash_file(find_file(folder, DESCRIPTION), [] {}));
}

std::string find_identity(const fs::path& folder, const App& app) {
    std::error_code error;
    if (!fs::exists(folder / MANIFEST, error))
        throw InputError(show(folder) + " has no " + MANIFEST + ", which says what bundle a result is of; copy it beside " + DESCRIPTION);
    const fs::path file = find_file(folder, MANIFEST);
    const Document document(read_file(file, LARGEST_MANIFEST), MANIFEST);
    const Node root = document.root();
    const std::map<std::string, std::string> named = list_named(root);
    Json files = Json::array();
    for (const Node& artifact : root.at("artifacts").items()) {
        const std::string path = artifact.at("path").text();
        if (!artifact.has("device") && artifact.at("kind").text() != "app") files.push_back({path, artifact.at("sha256").text()});
    }
    std::sort(files.begin(), files.end());
    check_named(named, DESCRIPTION, hash_file(find_file(folder, DESCRIPTION), [] {}));
    for (const FileEntry& entry : app.files) check_named(named, entry.path, entry.sha256);
    if (!app.reference.empty()) check_named(named, app.reference, hash_file(find_file(folder, app.reference), [] {}));
    const std::string text = Json{{"files", files}, {"key", root.at("key").text()}}.dump(-1, ' ', true);
    return hash_bytes(text.data(), text.size());
}

}  // namespace sprint_export
