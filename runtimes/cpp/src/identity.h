// Which bundle a folder is, as the Python package says it: results of one bundle are joined by it.
#ifndef SPRINT_EXPORT_IDENTITY_H
#define SPRINT_EXPORT_IDENTITY_H

#include <filesystem>
#include <string>

#include "app.h"

namespace sprint_export {

// Throws BundleError where bundle.json lies beside app.json and names another one: a changed word of it would draw another picture.
void check_description(const std::filesystem::path& folder);

// sha256 over bundle.json's key and files that no device has a part in. Throws BundleError unless app.json, the files it lists and
// the reference are those that bundle.json names; InputError where there is no bundle.json.
std::string find_identity(const std::filesystem::path& folder, const App& app);

}  // namespace sprint_export

#endif
