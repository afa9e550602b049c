// pixels OUT IMAGE ...: each picture as the model's input, FP32, one after the other in OUT. Needs no TensorRT.
#include <cstddef>
#include <exception>
#include <fstream>
#include <iostream>
#include <vector>

#include "model_info.hpp"
#include "vit/preprocess.hpp"
#include "vit/read.hpp"

int main(int count, char** words) {
    if (count < 3) {
        std::cerr << "usage: pixels OUT IMAGE ...\n";
        return 2;
    }
    try {
        std::ofstream out(words[1], std::ios::binary);
        const auto& how = model_info().preprocessing;
        std::vector<float> row(std::size_t(how.height) * std::size_t(how.width) * 3);
        for (int i = 2; i < count; ++i) {
            vit::preprocess(vit::read_image(words[i]), how, row.data());
            const auto size = static_cast<std::streamsize>(row.size() * sizeof(float));
            out.write(reinterpret_cast<const char*>(row.data()), size);
        }
        if (!out.flush()) {
            throw vit::Error(std::string(words[1]) + " cannot be written");
        }
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << "\n";
        return 2;
    }
}
