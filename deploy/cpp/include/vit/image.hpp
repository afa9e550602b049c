// An 8-bit RGB picture, and what is said of a file that is none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
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
    throw Error(path + " is not an image that can be read", found,
                "a PPM (P6), PGM (P5) or PNG file with 8 bits a channel, not interlaced",
                "convert " + path + " -auto-orient -strip -interlace none -depth 8 photo.png");
}

// An Error where decoding would take more memory than a photograph needs.
inline void check_size(const std::string& path, std::uint64_t width, std::uint64_t height) {
    if (width * height > MAX_PIXELS) {
        throw Error(path + " is too large to decode", std::to_string(width) + "x" + std::to_string(height) + " pixels",
                    "at most " + std::to_string(MAX_PIXELS) + " pixels");
    }
}

}  // namespace detail
}  // namespace vit
