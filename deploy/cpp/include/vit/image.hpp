// An 8-bit RGB picture, and how one is read from a binary PPM (P6) or PGM (P5) file, netpbm's format.
//
// JPEG and PNG need a decoder of your choice: fill an Image. On the command line: convert photo.jpg photo.ppm
#pragma once

#include <cctype>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "vit/error.hpp"

namespace vit {

constexpr std::uint64_t MAX_PIXELS = 178956970;  // where Pillow takes a file for a decompression bomb

struct Image {
    int height = 0, width = 0;
    std::vector<unsigned char> rgb;  // height x width x 3

    Image() = default;
    Image(int high, int wide) : height(high), width(wide), rgb(std::size_t(high) * std::size_t(wide) * 3) {}

    const unsigned char* at(int y, int x) const { return rgb.data() + (std::size_t(y) * std::size_t(width) + std::size_t(x)) * 3; }
    unsigned char* at(int y, int x) { return rgb.data() + (std::size_t(y) * std::size_t(width) + std::size_t(x)) * 3; }
};

namespace detail {

[[noreturn]] inline void no_image(const std::string& path, const std::string& found) {
    throw Error(path + " is not an image that can be read", found, "a binary PPM (P6) or PGM (P5) file",
                "convert " + path + " photo.ppm");
}

// A whole number of the header, behind white space and comments; -1 where there is none.
inline long number(std::istream& file) {
    int next = file.get();
    while (std::isspace(next) != 0 || next == '#') {
        if (next == '#') {
            file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
        }
        next = file.get();
    }
    long value = 0;
    bool digits = false;
    for (; std::isdigit(next) != 0 && value < 1000000000L; next = file.get()) {
        value = value * 10 + (next - '0');
        digits = true;
    }
    return digits && std::isspace(next) != 0 ? value : -1;  // exactly one white space ends the number
}

}  // namespace detail

// The picture in a file. Values up to another maximum than 255 are scaled, grey becomes three equal channels.
inline Image read_image(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        throw Error(path + " cannot be opened", "no file that may be read", "a binary PPM (P6) or PGM (P5) file");
    }
    char magic[2] = {0, 0};
    file.read(magic, 2);
    if (file.gcount() < 2) {
        detail::no_image(path, file.gcount() == 0 ? "an empty file" : "a file of one byte");
    }
    if (magic[0] != 'P' || (magic[1] != '6' && magic[1] != '5')) {
        detail::no_image(path, "a file that does not begin with P6 or P5");
    }
    const long width = detail::number(file), height = detail::number(file), most = detail::number(file);
    if (width < 1 || height < 1 || most < 1 || most > 65535) {
        detail::no_image(path, "a damaged header");
    }
    if (std::uint64_t(width) * std::uint64_t(height) > MAX_PIXELS) {
        throw Error(path + " is too large to decode", std::to_string(width) + "x" + std::to_string(height) + " pixels",
                    "at most " + std::to_string(MAX_PIXELS) + " pixels");
    }
    const std::size_t channels = magic[1] == '6' ? 3 : 1, bytes = most > 255 ? 2 : 1;
    const std::size_t values = std::size_t(width) * std::size_t(height) * channels;
    std::vector<char> raw(values * bytes);
    file.read(raw.data(), static_cast<std::streamsize>(raw.size()));
    if (std::size_t(file.gcount()) != raw.size()) {
        detail::no_image(path, std::to_string(file.gcount()) + " of " + std::to_string(raw.size()) + " bytes of pixels");
    }
    Image image(static_cast<int>(height), static_cast<int>(width));
    for (std::size_t i = 0; i < values; ++i) {
        long value = static_cast<unsigned char>(raw[i * bytes]);
        value = bytes == 2 ? value * 256 + static_cast<unsigned char>(raw[i * 2 + 1]) : value;
        value = most == 255 ? value : (value * 510 + most) / (2 * most);  // to the nearest
        const auto level = static_cast<unsigned char>(value < 255 ? value : 255);
        for (std::size_t j = 0; j < 3 / channels; ++j) {
            image.rgb[i * (3 / channels) + j] = level;
        }
    }
    return image;
}

}  // namespace vit
