#include "cpu/isa.h"

#include <cstdlib>

#include "common/check.h"

namespace convkit {
namespace {

// This file is compiled without ISA flags: the detector itself must run on any machine.
std::vector<const KernelTable*> supported_tables() {
  std::vector<const KernelTable*> tables{&baseline::kTable};
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_avx2) tables.push_back(&avx2::kTable);
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (has_avx512) tables.push_back(&avx512::kTable);
  if (has_avx512 && __builtin_cpu_supports("avx512bf16")) tables.push_back(&avx512_bf16::kTable);
#endif
  return tables;
}

struct Choice {
  const KernelTable* table;
  std::string error;
};

Choice choose() {
  const auto tables = supported_tables();
  const char* wanted = std::getenv("CONVKIT_ISA");
  if (!wanted || !*wanted) return {tables.back(), ""};
  for (const KernelTable* table : tables)
    if (std::string(wanted) == table->isa) return {table, ""};
  std::string names;
  for (const KernelTable* table : tables) names += (names.empty() ? "" : ", ") + std::string(table->isa);
  return {tables.back(), concat("CONVKIT_ISA='", wanted, "' is not one of this machine's: ", names)};
}

const Choice& choice() {
  static const Choice chosen = choose();
  return chosen;
}

}  // namespace

const KernelTable& kernels() { return *choice().table; }

const std::string& isa_error() { return choice().error; }

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const KernelTable* table : supported_tables()) names.emplace_back(table->isa);
  return names;
}

}  // namespace convkit
