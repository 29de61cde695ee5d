// Files of a bundle: opened only inside its folder and never through a link, sizes bounded, hashes compared.
#ifndef SPRINT_EXPORT_FILES_H
#define SPRINT_EXPORT_FILES_H

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace sprint_export {

// Where "a/b.onnx" of a bundle lies; throws BundleError unless it is a plain file inside the folder.
std::filesystem::path find_file(const std::filesystem::path& folder, const std::string& name);

std::string show(const std::filesystem::path& path);  // as UTF-8

std::string read_file(const std::filesystem::path& file, std::uintmax_t most);  // throws BundleError above `most` bytes

// SHA-256 as 64 hexadecimal digits; `go_on` is asked after each block of a file.
std::string hash_bytes(const void* data, std::size_t size);
std::string hash_file(const std::filesystem::path& file, const std::function<void()>& go_on);

class Sha256 {  // FIPS 180-4
public:
    void add(const void* data, std::size_t size);
    std::string finish();

private:
    void mix(const unsigned char* block);

    std::array<std::uint32_t, 8> state_ = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
    std::array<unsigned char, 64> rest_{};
    std::uint64_t count_ = 0;  // bytes so far
};

}  // namespace sprint_export

#endif
