// The one exception of these headers: what is wrong, the two facts that disagree, and the command to type now.
#pragma once

#include <stdexcept>
#include <string>

namespace vit {

class Error : public std::runtime_error {
public:
    explicit Error(const std::string& what, const std::string& found = "", const std::string& expected = "",
                   const std::string& next = "")
        : std::runtime_error(what + line("found:    ", found) + line("expected: ", expected) + line("next:     ", next)) {}

private:
    static std::string line(const char* label, const std::string& value) {
        return value.empty() ? "" : "\n  " + std::string(label) + value;
    }
};

}  // namespace vit
