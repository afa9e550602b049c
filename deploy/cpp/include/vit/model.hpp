// What the generated model_info.hpp says of a bundle: the manifest's facts, as types.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace vit {

struct Preprocessing {
    int height, width;
    std::array<float, 3> mean, std;
    std::string interpolation;  // nearest, bilinear, bicubic or lanczos
    double crop_pct;
    std::string mode;  // crop keeps the aspect ratio, squash gives it up
};

// One input or output; the batch comes before dims.
struct Tensor {
    std::string name;
    std::string dtype;  // numpy's name: float32, float16, bfloat16
    std::vector<std::int64_t> dims;

    std::size_t elements() const {  // of one row
        std::size_t product = 1;
        for (const std::int64_t n : dims) {
            product *= static_cast<std::size_t>(n);
        }
        return product;
    }
};

// An optimisation profile over the batch axis, in images.
struct Batch {
    int min, opt, max;
};

struct ModelInfo {
    std::string model, precision;
    std::string backend;          // tensorrt-rtx or tensorrt
    std::string backend_version;  // 1.7.1.116
    std::vector<std::string> targets;  // sm80, ...
    std::vector<std::string> rtx_targets;  // what TensorRT-RTX can compile for at all
    std::string engine_sha256;
    std::uint64_t engine_bytes;
    Batch batch;
    std::vector<Tensor> inputs, outputs;
    Preprocessing preprocessing;
    std::vector<std::string> labels;  // empty where it is not known what a class means
    std::string rebuild;              // make engine MODEL=... PRECISION=...; make cpp comes after it

    std::string label(std::size_t index) const { return index < labels.size() ? labels[index] : std::to_string(index); }
};

}  // namespace vit
