// The picture in a file: PPM, PGM or PNG, told apart by how they begin. JPEG needs a decoder of your choice.
#pragma once

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <string>

#include "vit/image.hpp"
#include "vit/png.hpp"
#include "vit/pnm.hpp"

namespace vit {

// An Error for what cannot be opened, is no picture, is damaged or too large.
inline Image read_image(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        throw Error(path + " cannot be opened", "no file that may be read", "a PPM, PGM or PNG file");
    }
    std::array<char, 8> begin{};
    file.read(begin.data(), begin.size());
    const auto count = file.gcount();
    file.clear();
    if (count < 2) {
        detail::no_image(path, count == 0 ? "an empty file" : "a file of one byte");
    }
    if (begin[0] == 'P' && (begin[1] == '6' || begin[1] == '5')) {
        file.seekg(2);
        return read_pnm(path, file, begin[1] == '6');
    }
    const auto& png = detail::PNG_SIGNATURE;
    const auto same = [](unsigned char a, char b) { return a == static_cast<unsigned char>(b); };
    if (std::equal(png.begin(), png.end(), begin.begin(), same)) {
        file.seekg(0);
        return read_png(path, detail::Bytes(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()));
    }
    const bool jpeg = static_cast<unsigned char>(begin[0]) == 0xFF && static_cast<unsigned char>(begin[1]) == 0xD8;
    detail::no_image(path, jpeg ? "a JPEG file" : "a file that begins as none of them");
}

}  // namespace vit
