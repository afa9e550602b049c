// An engine that runs: checked, deserialised, its buffers allocated for the largest batch of the profile.
//
// One Engine serves one thread. Errors of CUDA and of TensorRT are exceptions; TensorRT's carry its log.
#pragma once

#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "vit/checks.hpp"
#include "vit/error.hpp"
#include "vit/latency.hpp"
#include "vit/model.hpp"
#include "vit/numbers.hpp"

namespace vit {

inline void cuda(cudaError_t code, const char* what) {
    if (code != cudaSuccess) {
        throw Error(std::string("CUDA: ") + what + " failed: " + cudaGetErrorString(code));
    }
}

// Keeps what TensorRT says, warnings and worse, until somebody asks.
class Log : public nvinfer1::ILogger {
public:
    void log(Severity severity, const char* message) noexcept override {
        if (severity <= Severity::kWARNING) {
            const std::lock_guard<std::mutex> guard(mutex_);
            try {
                text_ += std::string("\n  TensorRT: ") + message;
            } catch (...) {  // no memory for a log line is no reason to end the program
            }
        }
    }

    [[noreturn]] void fail(const std::string& what) {
        const std::lock_guard<std::mutex> guard(mutex_);
        std::string said;
        said.swap(text_);
        throw Error(what + said);
    }

private:
    std::mutex mutex_;
    std::string text_;
};

namespace detail {

struct FreeDevice {
    void operator()(void* p) const { cudaFree(p); }
};
struct FreeHost {
    void operator()(void* p) const { cudaFreeHost(p); }
};
struct DestroyStream {
    void operator()(cudaStream_t p) const { cudaStreamDestroy(p); }
};
struct DestroyEvent {
    void operator()(cudaEvent_t p) const { cudaEventDestroy(p); }
};
struct DestroyGraph {
    void operator()(cudaGraphExec_t p) const { cudaGraphExecDestroy(p); }
};

template <class Pointer, class Delete>
using Owned = std::unique_ptr<std::remove_pointer_t<Pointer>, Delete>;

// The compute capability of the current GPU; an Error of one sentence where there is no driver or no GPU.
inline std::string gpu() {
    int count = 0, device = 0, major = 0, minor = 0;
    const cudaError_t code = cudaGetDeviceCount(&count);
    if (code == cudaErrorInsufficientDriver) {
        throw Error("there is no CUDA driver on this machine, or one that is too old for this program's CUDA runtime");
    }
    if (code == cudaErrorNoDevice || (code == cudaSuccess && count == 0)) {
        throw Error("the CUDA driver sees no GPU on this machine");
    }
    cuda(code, "cudaGetDeviceCount");
    cuda(cudaGetDevice(&device), "cudaGetDevice");
    cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
    cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "cudaDeviceGetAttribute");
    return capability(major, minor);
}

}  // namespace detail

class Engine {
public:
    // Reads and checks the engine in `path`; `graphs`: the computation of a batch size is captured once, then replayed.
    Engine(const std::string& path, const ModelInfo& info, bool graphs = true) : info_(info), graphs_(graphs) {
        const std::vector<char> bytes = read_engine(path, info);
        check_library(info, {getInferLibMajorVersion(), getInferLibMinorVersion(), getInferLibPatchVersion()});
        runtime_.reset(nvinfer1::createInferRuntime(log_));
        if (!runtime_) {
            log_.fail("TensorRT does not start");
        }
        check_capability(info, detail::gpu());
        engine_.reset(runtime_->deserializeCudaEngine(bytes.data(), bytes.size()));
        if (!engine_) {
            log_.fail(path + " cannot be deserialised");
        }
        context_.reset(engine_->createExecutionContext());
        if (!context_) {
            log_.fail("there is no execution context for " + path);
        }
        cudaStream_t stream = nullptr;
        cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
        stream_.reset(stream);
        for (auto& event : events_) {
            cudaEvent_t made = nullptr;
            cuda(cudaEventCreate(&made), "cudaEventCreate");
            event.reset(made);
        }
        allocate(info_.inputs, inputs_);
        allocate(info_.outputs, outputs_);
    }

    const ModelInfo& info() const { return info_; }

    // `batch` images, FP32 and preprocessed, through the engine; what the query took. The answers are in output().
    Query run(const float* pixels, int batch) {
        check_batch(info_, batch);
        const Tensor& input = info_.inputs.front();
        narrow(pixels, input.elements() * std::size_t(batch), input.dtype, inputs_.front().host.get());
        prepare(batch);
        const double started = milliseconds();
        record(0);
        copy(inputs_, batch, cudaMemcpyHostToDevice);
        record(1);
        launch(batch);
        record(2);
        copy(outputs_, batch, cudaMemcpyDeviceToHost);
        record(3);
        const double enqueued = milliseconds();
        cuda(cudaStreamSynchronize(stream_.get()), "the engine");
        const double done = milliseconds();
        const double h2d = between(0), gpu = between(1), d2h = between(2);
        return {h2d + gpu + d2h, h2d, gpu, d2h, enqueued - started, done - started};
    }

    // The rows of output `index` that the last run of `batch` images left, in FP32.
    std::vector<float> output(std::size_t index, int batch) const {
        const Tensor& tensor = info_.outputs.at(index);
        std::vector<float> made(tensor.elements() * std::size_t(batch));
        widen(outputs_.at(index).host.get(), made.size(), tensor.dtype, made.data());
        return made;
    }

private:
    struct Buffer {
        const Tensor* tensor;
        std::size_t row;  // bytes of one image
        std::unique_ptr<void, detail::FreeDevice> device;
        std::unique_ptr<void, detail::FreeHost> host;
    };

    void allocate(const std::vector<Tensor>& tensors, std::vector<Buffer>& buffers) {
        for (const Tensor& tensor : tensors) {
            check_type(tensor);
            const std::size_t row = tensor.elements() * width(tensor.dtype);
            const std::size_t bytes = row * std::size_t(info_.batch.max);
            void *device = nullptr, *host = nullptr;
            cuda(cudaMalloc(&device, bytes), "cudaMalloc");
            std::unique_ptr<void, detail::FreeDevice> owned(device);
            cuda(cudaMallocHost(&host, bytes), "cudaMallocHost");
            buffers.push_back({&tensor, row, std::move(owned), std::unique_ptr<void, detail::FreeHost>(host)});
            if (!context_->setTensorAddress(tensor.name.c_str(), device)) {
                log_.fail("the engine has no tensor " + tensor.name);
            }
        }
    }

    void check_type(const Tensor& tensor) const {
        using nvinfer1::DataType;
        const DataType found = engine_->getTensorDataType(tensor.name.c_str());
        const bool same = (tensor.dtype == "float32" && found == DataType::kFLOAT) ||
                          (tensor.dtype == "float16" && found == DataType::kHALF) ||
                          (tensor.dtype == "bfloat16" && found == DataType::kBF16);
        if (!same) {
            throw Error("the engine's tensor " + tensor.name + " has another type than model_info.hpp says",
                        "type " + std::to_string(static_cast<int>(found)), tensor.dtype, info_.rebuild);
        }
    }

    // Sets the shapes; at a batch size's first time the kernels are loaded, and the graph is captured.
    void prepare(int batch) {
        if (batch != shaped_) {
            shaped_ = 0;
            for (const Tensor& tensor : info_.inputs) {
                nvinfer1::Dims dims{};
                dims.nbDims = static_cast<std::int32_t>(tensor.dims.size()) + 1;
                dims.d[0] = batch;
                for (std::size_t i = 0; i < tensor.dims.size(); ++i) {
                    dims.d[i + 1] = tensor.dims[i];
                }
                if (!context_->setInputShape(tensor.name.c_str(), dims)) {
                    log_.fail("the engine refuses " + std::to_string(batch) + " images");
                }
            }
            shaped_ = batch;
        }
        if (!graphs_ || captured_.count(batch) != 0) {
            return;
        }
        enqueue();
        cuda(cudaStreamSynchronize(stream_.get()), "the engine");
        cuda(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
        const bool asked = context_->enqueueV3(stream_.get());
        cudaGraph_t graph = nullptr;
        const cudaError_t ended = cudaStreamEndCapture(stream_.get(), &graph);
        if (!asked) {
            if (graph != nullptr) {
                cudaGraphDestroy(graph);
            }
            log_.fail("the engine cannot be captured as a CUDA graph: run it without");
        }
        cuda(ended, "cudaStreamEndCapture");
        cudaGraphExec_t made = nullptr;
        const cudaError_t code = cudaGraphInstantiate(&made, graph, 0);
        cudaGraphDestroy(graph);
        cuda(code, "cudaGraphInstantiate");
        captured_[batch].reset(made);
    }

    void enqueue() {
        if (!context_->enqueueV3(stream_.get())) {
            log_.fail("the engine does not run");
        }
    }

    void launch(int batch) {
        if (graphs_) {
            cuda(cudaGraphLaunch(captured_.at(batch).get(), stream_.get()), "cudaGraphLaunch");
        } else {
            enqueue();
        }
    }

    void copy(const std::vector<Buffer>& buffers, int batch, cudaMemcpyKind kind) {
        const bool up = kind == cudaMemcpyHostToDevice;
        for (const Buffer& b : buffers) {
            cuda(cudaMemcpyAsync(up ? b.device.get() : b.host.get(), up ? b.host.get() : b.device.get(),
                                 b.row * std::size_t(batch), kind, stream_.get()),
                 "cudaMemcpyAsync");
        }
    }

    void record(std::size_t event) { cuda(cudaEventRecord(events_[event].get(), stream_.get()), "cudaEventRecord"); }

    double between(std::size_t event) const {
        float ms = 0;
        cuda(cudaEventElapsedTime(&ms, events_[event].get(), events_[event + 1].get()), "cudaEventElapsedTime");
        return double(ms);
    }

    ModelInfo info_;
    bool graphs_;
    int shaped_ = 0;
    Log log_;  // outlives what logs to it
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    std::vector<Buffer> inputs_, outputs_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    detail::Owned<cudaStream_t, detail::DestroyStream> stream_;
    std::array<detail::Owned<cudaEvent_t, detail::DestroyEvent>, 4> events_;
    std::map<int, detail::Owned<cudaGraphExec_t, detail::DestroyGraph>> captured_;
};

}  // namespace vit
