// Cooperative threads with stacks of their own: a few instructions a switch on x86-64, ucontext elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace simt {

constexpr size_t kStackBytes = 128 * 1024;

#if defined(__x86_64__)

struct Fiber {
  void* stack_pointer = nullptr;
};

// Saves what a function must preserve on this stack and takes up the other one. (`asm` in an inline function with
// `naked`, so that the compiler adds nothing.)
[[gnu::naked]] inline void switch_stack(void** /*from*/, void* /*to*/) {
  asm("push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
      "mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
      "pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret");
}

inline void switch_fiber(Fiber& from, Fiber& to) { switch_stack(&from.stack_pointer, to.stack_pointer); }

// `entry` never returns.
inline void start_fiber(Fiber& fiber, char* stack, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + kStackBytes);
  *--top = nullptr;  // where a return address would be: the stack is aligned as after a call
  *--top = reinterpret_cast<void*>(entry);
  fiber.stack_pointer = top - 6;  // registers of any value
}

#else

struct Fiber {
  ucontext_t context;
};

inline void switch_fiber(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }

inline void start_fiber(Fiber& fiber, char* stack, void (*entry)()) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack, fiber.context.uc_stack.ss_size = kStackBytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
}

#endif

}  // namespace simt
