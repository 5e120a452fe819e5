// How Python launches a kernel.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#pragma GCC visibility push(hidden)

// Of C linkage, since a kernel which declares it inside its body has C linkage itself.
extern "C" unsigned char dynamic_shared[];

namespace emulation {

int launch(void (*kernel)(void**), const unsigned* grid, const unsigned* block,
           unsigned shared_bytes, void** arguments, unsigned seed, int switching, char* message,
           unsigned message_size);

template <class... Arguments, std::size_t... At>
inline void call(void (*kernel)(Arguments...), void** arguments, std::index_sequence<At...>) {
    kernel(*static_cast<std::remove_reference_t<Arguments>*>(arguments[At])...);
}

template <class... Arguments>
inline void call(void (*kernel)(Arguments...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<Arguments...>());
}

template <class... Arguments>
inline unsigned bytes_of_argument(void (*)(Arguments...), unsigned position) {
    const unsigned bytes[] = {sizeof(Arguments)..., 0};
    return bytes[position < sizeof...(Arguments) ? position : sizeof...(Arguments)];
}

}  // namespace emulation
#pragma GCC visibility pop

// bytes_of_argument_##name is 0 for the position after the last argument.
#define EMULATED_KERNEL(name)                                                                \
    extern "C" unsigned bytes_of_argument_##name(unsigned position) {                        \
        return emulation::bytes_of_argument(name, position);                                 \
    }                                                                                        \
    extern "C" int emulate_##name(const unsigned* grid3, const unsigned* block3,             \
                                  unsigned shared_bytes, void** args, unsigned seed,         \
                                  int switch_at_atomics, char* message,                      \
                                  unsigned message_size) {                                   \
        return emulation::launch([](void** values) { emulation::call(name, values); },       \
                                 grid3, block3, shared_bytes, args, seed,                    \
                                 switch_at_atomics, message, message_size);                  \
    }
