// Binary PPM (P6) and PGM (P5), netpbm's formats.
#pragma once

#include <cctype>
#include <cstddef>
#include <cstdint>
#include <istream>
#include <limits>
#include <string>
#include <vector>

#include "vit/image.hpp"

namespace vit {
namespace detail {

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

// The picture behind the two bytes P6 or P5. Values up to another maximum than 255 are scaled, grey becomes three equal
// channels; `path` is how errors call it.
inline Image read_pnm(const std::string& path, std::istream& file, bool colour) {
    const long width = detail::number(file), height = detail::number(file), most = detail::number(file);
    if (width < 1 || height < 1 || most < 1 || most > 65535) {
        detail::no_image(path, "a damaged header");
    }
    detail::check_size(path, static_cast<std::uint64_t>(width), static_cast<std::uint64_t>(height));
    const std::size_t channels = colour ? 3 : 1, bytes = most > 255 ? 2 : 1;
    const std::size_t values = std::size_t(width) * std::size_t(height) * channels;
    std::vector<char> raw(values * bytes);
    file.read(raw.data(), static_cast<std::streamsize>(raw.size()));
    if (std::size_t(file.gcount()) != raw.size()) {
        detail::no_image(path, std::to_string(file.gcount()) + " of " + std::to_string(raw.size()) +
                                   " bytes of pixels");
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
