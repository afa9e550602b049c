// FP32 to FP16 and BF16, rounded to nearest even, and back: for engines whose boundary is 16 bits wide.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "vit/error.hpp"

namespace vit {

inline std::uint32_t bits(float x) {
    std::uint32_t made;
    std::memcpy(&made, &x, sizeof made);
    return made;
}

inline float from_bits(std::uint32_t x) {
    float made;
    std::memcpy(&made, &x, sizeof made);
    return made;
}

inline std::uint16_t to_bfloat16(float x) {
    const std::uint32_t b = bits(x);
    if ((b & 0x7fffffffU) > 0x7f800000U) {
        return static_cast<std::uint16_t>((b >> 16) | 0x40U);  // a NaN stays one
    }
    return static_cast<std::uint16_t>((b + 0x7fffU + ((b >> 16) & 1U)) >> 16);
}

inline float from_bfloat16(std::uint16_t x) { return from_bits(std::uint32_t(x) << 16); }

inline std::uint16_t to_float16(float x) {
    const std::uint32_t b = bits(x), size = b & 0x7fffffffU;
    const auto sign = static_cast<std::uint16_t>(b >> 16 & 0x8000U);
    if (size > 0x7f800000U) {
        return static_cast<std::uint16_t>(sign | 0x7e00U);
    }
    if (size >= 0x477ff000U) {  // 65520, from which on the nearest is infinity
        return static_cast<std::uint16_t>(sign | 0x7c00U);
    }
    if (size < 0x38800000U) {  // below 2^-14: adding 0.5 leaves multiples of 2^-24 in the last bits, rounded by the FPU
        return static_cast<std::uint16_t>(sign | (bits(from_bits(size) + 0.5F) - bits(0.5F)));
    }
    return static_cast<std::uint16_t>(sign | ((size + 0xfffU + (size >> 13 & 1U)) - 0x38000000U) >> 13);
}

inline float from_float16(std::uint16_t x) {
    const std::uint32_t sign = std::uint32_t(x & 0x8000U) << 16, size = x & 0x7fffU;
    if (size >= 0x7c00U) {
        return from_bits(sign | 0x7f800000U | (size & 0x3ffU) << 13);
    }
    if (size < 0x400U) {
        const float small = static_cast<float>(size) * 0x1p-24F;
        return sign != 0 ? -small : small;
    }
    return from_bits(sign | ((size << 13) + 0x38000000U));
}

// Bytes of one value of a type, by numpy's name for it.
inline std::size_t width(const std::string& dtype) {
    if (dtype == "float32") {
        return 4;
    }
    if (dtype == "float16" || dtype == "bfloat16") {
        return 2;
    }
    throw Error("a tensor has a type that this program does not know", dtype, "float32, float16 or bfloat16");
}

// `count` FP32 values as `dtype`.
inline void narrow(const float* from, std::size_t count, const std::string& dtype, void* into) {
    if (width(dtype) == 4) {
        std::memcpy(into, from, count * 4);
        return;
    }
    auto* next = static_cast<std::uint16_t*>(into);
    for (std::size_t i = 0; i < count; ++i) {
        next[i] = dtype == "float16" ? to_float16(from[i]) : to_bfloat16(from[i]);
    }
}

// `count` values of `dtype` as FP32.
inline void widen(const void* from, std::size_t count, const std::string& dtype, float* into) {
    if (width(dtype) == 4) {
        std::memcpy(into, from, count * 4);
        return;
    }
    const auto* next = static_cast<const std::uint16_t*>(from);
    for (std::size_t i = 0; i < count; ++i) {
        into[i] = dtype == "float16" ? from_float16(next[i]) : from_bfloat16(next[i]);
    }
}

}  // namespace vit
