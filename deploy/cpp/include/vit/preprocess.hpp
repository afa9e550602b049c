// A picture as the model's input: resized, cropped in the middle, scaled to 0..1, normalised, channels first.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "vit/image.hpp"
#include "vit/model.hpp"
#include "vit/resize.hpp"

namespace vit {

// Height and width before the crop. The longer side is rounded down for a square input, to the nearest (halves to even)
// for an oblong one, as torchvision and timm do it.
inline std::pair<int, int> resized(const Image& image, const Preprocessing& how) {
    const int height = static_cast<int>(how.height / how.crop_pct), width = static_cast<int>(how.width / how.crop_pct);
    if (how.mode == "squash") {
        return {height, width};
    }
    if (how.mode != "crop") {
        throw Error("there is no mode " + how.mode, how.mode, "crop or squash");
    }
    const double limit = 2e9;  // what is more than that is refused by resize, not overflowed here
    if (height == width) {
        const double shorter = std::min(image.height, image.width);
        return {static_cast<int>(std::min(double(height) * image.height / shorter, limit)),
                static_cast<int>(std::min(double(width) * image.width / shorter, limit))};
    }
    const double ratio = std::min(double(image.height) / height, double(image.width) / width);
    return {static_cast<int>(std::min(std::nearbyint(image.height / ratio), limit)),
            static_cast<int>(std::min(std::nearbyint(image.width / ratio), limit))};
}

// What the model sees of the picture: left, top, width, height in the picture's pixels. A box in shares of the model's
// input lies in it.
inline std::array<double, 4> window(const Image& image, const Preprocessing& how) {
    const auto [high, wide] = resized(image, how);
    const double down = double(image.height) / high, across = double(image.width) / wide;
    return {std::nearbyint((wide - how.width) / 2.0) * across, std::nearbyint((high - how.height) / 2.0) * down,
            how.width * across, how.height * down};
}

// 3 x height x width, FP32, written to where `into` points.
inline void preprocess(const Image& image, const Preprocessing& how, float* into) {
    const auto [high, wide] = resized(image, how);
    const Image large = resize(image, high, wide, how.interpolation);
    const int top = static_cast<int>(std::nearbyint((high - how.height) / 2.0));
    const int left = static_cast<int>(std::nearbyint((wide - how.width) / 2.0));
    for (std::size_t c = 0; c < 3; ++c) {
        for (int y = 0; y < how.height; ++y) {
            for (int x = 0; x < how.width; ++x) {
                const int row = y + top, column = x + left;
                const bool inside = row >= 0 && row < high && column >= 0 && column < wide;
                const float value = inside ? static_cast<float>(large.at(row, column)[c]) : 0.0F;
                *into++ = (value / 255.0F - how.mean[c]) / how.std[c];
            }
        }
    }
}

}  // namespace vit
