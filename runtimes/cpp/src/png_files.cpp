// PNG files through libpng: read as Pillow's convert("RGB") reads them, which the Python package uses, and written.
//
// libpng leaves a damaged file by longjmp. Functions that call it after setjmp have therefore no object with a destructor: what they
// fill lies in `Reading`, which their caller owns.
#include <csetjmp>
#include <cstring>
#include <fstream>

#include <png.h>

#include "files.h"
#include "png_files.h"

namespace fs = std::filesystem;

namespace sprint_export {
namespace {

using Bytes = std::vector<std::uint8_t>;
constexpr std::uintmax_t LARGEST_FILE = std::uintmax_t{1} << 29;
constexpr int LONGEST_SIDE = 1 << 24;
constexpr unsigned MOST_CHUNKS = 1000;            // that are kept, such as texts
constexpr png_alloc_size_t LARGEST_CHUNK = 1 << 23;  // bytes, unpacked
constexpr unsigned ORIENTATION = 0x112, UPRIGHT = 1;  // of Exif
constexpr std::size_t MOST_PACKED = 1032;  // bytes that deflate makes of one at most (zlib's technical details)

struct Reading {
    png_structp png = nullptr;
    png_infop info = nullptr;
    const std::uint8_t* data = nullptr;
    std::size_t left = 0;
    char message[128] = {};
    png_uint_32 width = 0, height = 0;
    std::size_t row_bytes = 0;  // as they are stored
    unsigned orientation = UPRIGHT;
};

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
    auto* reading = static_cast<Reading*>(png_get_error_ptr(png));
    std::strncpy(reading->message, message, sizeof reading->message - 1);
    png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}  // of chunks that are no part of the picture

void on_read(png_structp png, png_bytep target, std::size_t size) {
    auto* reading = static_cast<Reading*>(png_get_io_ptr(png));
    if (size > reading->left) png_error(png, "it ends too early");
    std::memcpy(target, reading->data, size);
    reading->data += size;
    reading->left -= size;
}

// The value of an Exif block's orientation, a short in its first directory; 1 where it has none.
unsigned find_orientation(const std::uint8_t* exif, std::size_t size) {
    const bool is_big = size > 0 && exif[0] == 'M';
    const auto read = [&](std::size_t place, unsigned bytes) {
        std::uint32_t value = 0;
        for (unsigned i = 0; i < bytes && place + bytes <= size; ++i)
            value |= static_cast<std::uint32_t>(exif[place + i]) << 8 * (is_big ? bytes - 1 - i : i);
        return value;
    };
    const std::size_t directory = read(4, 4);
    for (std::size_t i = 0; i < read(directory, 2); ++i)
        if (read(directory + 2 + 12 * i, 2) == ORIENTATION) return read(directory + 2 + 12 * i + 8, 2);
    return UPRIGHT;
}

bool read_header(Reading& reading) {
    if (setjmp(png_jmpbuf(reading.png)) != 0) return false;
    png_set_user_limits(reading.png, LONGEST_SIDE, LONGEST_SIDE);
    png_set_chunk_cache_max(reading.png, MOST_CHUNKS);
    png_set_chunk_malloc_max(reading.png, LARGEST_CHUNK);
    png_read_info(reading.png, reading.info);
    reading.width = png_get_image_width(reading.png, reading.info);
    reading.height = png_get_image_height(reading.png, reading.info);
    reading.row_bytes = png_get_rowbytes(reading.png, reading.info);
    return true;
}

// Rows of 8-bit RGB, and the orientation, which may stand behind them.
bool read_rows(Reading& reading, png_bytepp rows) {
    if (setjmp(png_jmpbuf(reading.png)) != 0) return false;
    png_set_strip_16(reading.png);
    png_set_expand(reading.png);
    png_set_gray_to_rgb(reading.png);
    png_set_strip_alpha(reading.png);
    png_set_interlace_handling(reading.png);
    png_read_update_info(reading.png, reading.info);
    if (png_get_rowbytes(reading.png, reading.info) != std::size_t{3} * reading.width) png_error(reading.png, "its pixels are of an unknown kind");
    png_read_image(reading.png, rows);
    png_read_end(reading.png, reading.info);
    png_uint_32 size = 0;
    png_bytep exif = nullptr;
    if (png_get_eXIf_1(reading.png, reading.info, &size, &exif) != 0) reading.orientation = find_orientation(exif, size);
    return true;
}

class Reader {  // of one file
public:
    explicit Reader(const Bytes& file) : most_bytes_(file.size() * MOST_PACKED) {
        reading_.data = file.data();
        reading_.left = file.size();
        reading_.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reading_, on_error, on_warning);
        reading_.info = reading_.png == nullptr ? nullptr : png_create_info_struct(reading_.png);
        if (reading_.info == nullptr) throw MachineError("libpng cannot start: no memory, or another version than at the build");
        png_set_read_fn(reading_.png, &reading_, on_read);
    }
    ~Reader() { png_destroy_read_struct(&reading_.png, &reading_.info, nullptr); }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    Picture read(std::size_t most_pixels) {
        if (!read_header(reading_)) refuse(reading_.message);
        const std::size_t width = reading_.width, height = reading_.height;
        if (width > most_pixels / height)
            throw InputError("a PNG file has " + std::to_string(width) + " x " + std::to_string(height) + " pixels, expected at most " +
                             std::to_string(most_pixels));
        if (reading_.row_bytes * height > most_bytes_) refuse("it is too short for its width and height");
        Picture picture;
        picture.width = static_cast<int>(width);
        picture.height = static_cast<int>(height);
        picture.rgb.resize(3 * width * height);
        std::vector<png_bytep> rows(height);
        for (std::size_t y = 0; y < height; ++y) rows[y] = picture.rgb.data() + 3 * width * y;
        if (!read_rows(reading_, rows.data())) refuse(reading_.message);
        if (reading_.orientation != UPRIGHT)
            throw InputError("a PNG file is stored turned (Exif orientation " + std::to_string(reading_.orientation) + "); save it upright");
        return picture;
    }

private:
    [[noreturn]] static void refuse(const std::string& why) {
        throw InputError("a PNG file is damaged or of another kind (" + why + "); expected a whole PNG");
    }

    Reading reading_;
    std::size_t most_bytes_;
};

}  // namespace

Picture decode_png(const Bytes& file, std::size_t most_pixels) {
    if (file.size() < 8 || png_sig_cmp(file.data(), 0, 8) != 0) throw InputError("it is no PNG file; expected a picture as PNG");
    return Reader(file).read(most_pixels);
}

Picture decode_png(const Bytes& file) { return decode_png(file, MOST_PIXELS); }

Picture read_png(const fs::path& file) {
    std::error_code error;
    if (!fs::is_regular_file(file, error)) throw InputError(show(file) + ": there is no such file; expected a picture as PNG");
    try {
        const std::string bytes = read_file(file, LARGEST_FILE);
        return decode_png({bytes.begin(), bytes.end()});
    } catch (const MachineError&) {
        throw;
    } catch (const Error& cause) {
        throw InputError(show(file) + ": " + cause.what());
    }
}

Bytes encode_png(const Picture& picture) {
    check_picture(picture, "a picture");
    png_image image{};
    image.version = PNG_IMAGE_VERSION;
    image.width = static_cast<png_uint_32>(picture.width);
    image.height = static_cast<png_uint_32>(picture.height);
    image.format = PNG_FORMAT_RGB;
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
    Bytes file(size);
    if (png_image_write_to_memory(&image, file.data(), &size, 0, picture.rgb.data(), 0, nullptr) == 0)
        throw MachineError(std::string("libpng cannot write a picture: ") + image.message);
    file.resize(size);
    return file;
}

void check_picture(const Picture& picture, const std::string& name) {
    const bool has_size = picture.width > 0 && picture.height > 0;
    const std::size_t values = has_size ? std::size_t{3} * static_cast<std::size_t>(picture.width) * static_cast<std::size_t>(picture.height) : 0;
    if (!has_size || picture.rgb.size() != values)
        throw InputError(name + " of " + std::to_string(picture.width) + " by " + std::to_string(picture.height) + " pixels with " +
                         std::to_string(picture.rgb.size()) + " values, expected three a pixel");
}

}  // namespace sprint_export
