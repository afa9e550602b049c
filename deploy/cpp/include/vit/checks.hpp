// What must hold before an engine is deserialised: its bytes, the library and the GPU are those of its manifest.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "vit/error.hpp"
#include "vit/model.hpp"
#include "vit/sha256.hpp"

namespace vit {

// The bytes of the engine in `path`, hashed as they are read; an Error where they are not the manifest's.
inline std::vector<char> read_engine(const std::string& path, const ModelInfo& info) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) {
        throw Error(path + " cannot be opened", "no file that may be read", "the engine of " + info.model, info.rebuild);
    }
    const auto size = static_cast<std::int64_t>(file.tellg());
    if (size < 0 || std::uint64_t(size) != info.engine_bytes) {
        throw Error(path + " is not the engine that model_info.hpp describes", std::to_string(size) + " bytes",
                    std::to_string(info.engine_bytes) + " bytes", info.rebuild);
    }
    file.seekg(0);
    std::vector<char> bytes(static_cast<std::size_t>(size));
    Sha256 hash;
    constexpr std::size_t PIECE = std::size_t(1) << 24;
    for (std::size_t begin = 0; begin < bytes.size(); begin += PIECE) {
        const std::size_t piece = std::min(PIECE, bytes.size() - begin);
        if (!file.read(bytes.data() + begin, static_cast<std::streamsize>(piece))) {
            throw Error(path + " cannot be read to its end", std::to_string(begin) + " bytes",
                        std::to_string(size) + " bytes", info.rebuild);
        }
        hash.update(bytes.data() + begin, piece);
    }
    const std::string found = hash.hex();
    if (found != info.engine_sha256) {
        throw Error(path + " is not the engine that model_info.hpp describes", "sha256 " + found,
                    "sha256 " + info.engine_sha256, info.rebuild);
    }
    return bytes;
}

// 8, 0 -> sm80, as TARGET has it.
inline std::string capability(int major, int minor) { return "sm" + std::to_string(major * 10 + minor); }

// The library that this program is linked with, by the name of BACKEND: TensorRT-RTX counts its versions from 1,
// TensorRT has had none below 8 with this interface.
inline std::string backend_of(int major) { return major < 8 ? "tensorrt-rtx" : "tensorrt"; }

// An Error where the library is another one than the engine was built with; `version` is major, minor, patch. Engines
// are read by the version that wrote them, whatever its build number.
inline void check_library(const ModelInfo& info, const std::array<int, 3>& version) {
    const std::string backend = backend_of(version[0]);
    std::string number;
    for (const int part : version) {
        number += (number.empty() ? "" : ".") + std::to_string(part);
    }
    if (backend != info.backend) {
        throw Error("the engine is for another library than this program is linked with", backend + " " + number,
                    info.backend + " " + info.backend_version, info.rebuild + " BACKEND=" + backend);
    }
    if ((info.backend_version + ".").rfind(number + ".", 0) != 0) {
        throw Error("the engine was built with another version of " + backend, number, info.backend_version,
                    "install " + backend + " " + number + " where engines are built, then " + info.rebuild);
    }
}

// An Error where the engine holds no code for a GPU of this compute capability.
inline void check_capability(const ModelInfo& info, const std::string& found) {
    if (std::find(info.targets.begin(), info.targets.end(), found) != info.targets.end()) {
        return;
    }
    std::string known;
    for (const std::string& target : info.targets) {
        known += (known.empty() ? "" : ",") + target;
    }
    const auto& rtx = info.rtx_targets;
    const bool native = info.backend == "tensorrt" || std::find(rtx.begin(), rtx.end(), found) == rtx.end();
    throw Error("the engine is not for the GPU of this machine", found, known,
                native ? info.rebuild + " BACKEND=tensorrt   (on this machine)"
                       : info.rebuild + " TARGET=" + known + "," + found);
}

// An Error where `batch` images are not within the profile.
inline void check_batch(const ModelInfo& info, int batch) {
    if (batch < info.batch.min || batch > info.batch.max) {
        const std::string largest = std::to_string(std::max(batch, info.batch.max));
        throw Error("the engine does not take a batch of this size", std::to_string(batch) + " images",
                    std::to_string(info.batch.min) + " to " + std::to_string(info.batch.max) + " images",
                    info.rebuild + " BATCH=1:" + std::to_string(info.batch.opt) + ":" + largest);
    }
}

}  // namespace vit
