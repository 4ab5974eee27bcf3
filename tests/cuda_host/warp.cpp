#include "warp.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "common/half.h"
#include "memory.h"

namespace simt {
namespace {

struct ShuffleLane {
  uint64_t value, result;
  int source;
};

void run_shuffle(Lanes& lanes) {
  for (void* pointer : lanes) {
    auto* to = static_cast<ShuffleLane*>(pointer);
    if (!to || to->source < 0 || to->source >= kWarp) continue;
    if (!lanes[to->source]) fail("a shuffle from a lane that the mask leaves out");
    to->result = static_cast<ShuffleLane*>(lanes[to->source])->value;
  }
}

struct BallotLane {
  bool predicate;
  uint32_t result;
};

void run_ballot(Lanes& lanes) {
  uint32_t bits = 0;
  for (int i = 0; i < kWarp; ++i)
    if (lanes[i] && static_cast<BallotLane*>(lanes[i])->predicate) bits |= 1u << i;
  for (void* pointer : lanes)
    if (pointer) static_cast<BallotLane*>(pointer)->result = bits;
}

struct MatrixLane {
  const void* row;
  uint32_t* matrices;
  bool transposed;
};

void run_ldmatrix(Lanes& lanes) {
  uint16_t element[4][8][8];
  for (int lane = 0; lane < kWarp; ++lane)
    std::memcpy(element[lane / 8][lane % 8], static_cast<MatrixLane*>(lanes[lane])->row, 16);
  for (int lane = 0; lane < kWarp; ++lane) {
    const MatrixLane& to = *static_cast<MatrixLane*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      const uint32_t low = to.transposed ? element[i][2 * t][g] : element[i][g][2 * t];
      const uint32_t high = to.transposed ? element[i][2 * t + 1][g] : element[i][g][2 * t + 1];
      to.matrices[i] = low | high << 16;
    }
  }
}

struct MmaLane {
  float* sums;
  const uint32_t *a, *b;
};

double tf32(uint32_t bits) { return std::bit_cast<float>(bits & 0xFFFFE000); }  // 10 bits of the mantissa are read

template <typename T>
double half_of(uint32_t pair, int which) {
  T x;
  x.bits = static_cast<uint16_t>(pair >> 16 * which);
  return static_cast<float>(x);
}

// Towards zero, as tensor cores round their sums. (The sum itself, of exact products in double, is more than they
// keep.)
float truncate(double sum) {
  const auto nearest = static_cast<float>(sum);
  return std::abs(static_cast<double>(nearest)) > std::abs(sum) ? std::nextafter(nearest, 0.0f) : nearest;
}

// Fragments of PTX's mma.m16n8k8 (tf32) and m16n8k16 (16 bits), lane = 4 g + t: of A rows g and g + 8, of B and of the
// sums column by column. `width` elements of k lie in one register.
template <int K, typename Number>
void run_mma(Lanes& lanes, const Number& number) {
  constexpr int kWidth = K / 8;
  const auto lane = [&](int g, int t) { return static_cast<MmaLane*>(lanes[4 * g + t]); };
  float result[16][8];
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      double sum = lane(row % 8, column / 2)->sums[row / 8 * 2 + column % 2];
      for (int k = 0; k < K; ++k) {
        const int t = k / kWidth % 4, upper = k / (4 * kWidth), part = k % kWidth;
        sum += number(lane(row % 8, t)->a[row / 8 + 2 * upper], part) * number(lane(column, t)->b[upper], part);
      }
      result[row][column] = truncate(sum);
    }
  }
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 8; ++column)
      lane(row % 8, column / 2)->sums[row / 8 * 2 + column % 2] = result[row][column];
}

void run_mma_tf32(Lanes& lanes) {
  run_mma<8>(lanes, [](uint32_t bits, int) { return tf32(bits); });
}
void run_mma_bfloat16(Lanes& lanes) { run_mma<16>(lanes, half_of<convkit::BFloat16>); }
void run_mma_half(Lanes& lanes) { run_mma<16>(lanes, half_of<convkit::Half>); }

// wgmma: each warp of four has 16 rows. What it loads, tensor cores may load until the wait: it must not change.
struct WgmmaLane {
  Element element;
  float* sums;
  int columns;
  uint64_t a, b;
};
struct Loaded {
  const char* from;
  char bytes[16];
};
struct WgmmaGroups {
  std::vector<Loaded> open;
  std::vector<std::vector<Loaded>> closed;
  uint32_t block = 0;  // whose they are
};

// Of the running warp. A block that failed leaves some behind.
WgmmaGroups& wgmma_groups() {
  static WgmmaGroups groups[kWarp];
  WgmmaGroups& own = groups[position().warp];
  if (own.block != current_block()) own = {{}, {}, current_block()};
  return own;
}

// 32 bytes of a row of a matrix whose rows of 128 bytes have their vectors of 16 bytes permuted.
void load_row(uint64_t matrix, int row, char (&bytes)[32]) {
  const auto base = reinterpret_cast<uint64_t>(shared_memory());
  for (int half = 0; half < 32; half += 16) {
    const uint64_t at = matrix - base + row * 128 + half;
    const auto* from = reinterpret_cast<const char*>(base + (at ^ (at / 128 % 8 * 16)));
    check_async_load(from, 16);
    std::memcpy(bytes + half, from, 16);
    Loaded& loaded = wgmma_groups().open.emplace_back();
    loaded.from = from;
    std::memcpy(loaded.bytes, from, 16);
  }
}

double product_of(Element element, const char (&a)[32], const char (&b)[32]) {
  double sum = 0;
  for (int k = 0; k < 8; ++k) {
    uint32_t x, y;
    std::memcpy(&x, a + 4 * k, 4), std::memcpy(&y, b + 4 * k, 4);
    if (element == Element::kTf32) sum += tf32(x) * tf32(y);
    for (int part = 0; part < 2 && element == Element::kHalf; ++part)
      sum += half_of<convkit::Half>(x, part) * half_of<convkit::Half>(y, part);
    for (int part = 0; part < 2 && element == Element::kBFloat16; ++part)
      sum += half_of<convkit::BFloat16>(x, part) * half_of<convkit::BFloat16>(y, part);
  }
  return sum;
}

void run_wgmma(Lanes& lanes) {
  const WgmmaLane first = *static_cast<WgmmaLane*>(lanes[0]);
  char a[16][32];
  for (int row = 0; row < 16; ++row) load_row(first.a, position().warp % 4 * 16 + row, a[row]);
  for (int column = 0; column < first.columns; ++column) {
    char b[32];
    load_row(first.b, column, b);
    for (int row = 0; row < 16; ++row) {
      const auto* lane = static_cast<WgmmaLane*>(lanes[row % 8 * 4 + column % 8 / 2]);
      float& sum = lane->sums[column / 8 * 4 + row / 8 * 2 + column % 2];
      sum = truncate(sum + product_of(first.element, a[row], b));
    }
  }
}

void run_wgmma_commit(Lanes&) {
  WgmmaGroups& groups = wgmma_groups();
  groups.closed.push_back(std::move(groups.open));
  groups.open.clear();
}

void run_wgmma_wait(Lanes& lanes) {
  auto& closed = wgmma_groups().closed;
  while (std::ssize(closed) > *static_cast<int*>(lanes[0])) {
    for (const Loaded& loaded : closed.front()) {
      check_async_load(loaded.from, 16);
      if (std::memcmp(loaded.from, loaded.bytes, 16) != 0) fail("what wgmma loads has changed before its wait");
    }
    closed.erase(closed.begin());
  }
}

}  // namespace

int lane() { return position().thread % kWarp; }

void sync_warp(uint32_t mask, Site site) {
  collective(
      mask, "__syncwarp",
      [](Lanes& lanes) {
        uint32_t all = 0;
        for (int i = 0; i < kWarp; ++i) all |= lanes[i] ? 1u << i : 0;
        order_warp(all);
      },
      &mask, site);
}

uint64_t shuffle(uint32_t mask, uint64_t value, int source, Site site) {
  ShuffleLane lane{value, value, source};
  collective(mask, "a shuffle", run_shuffle, &lane, site);
  return lane.result;
}

uint32_t ballot(uint32_t mask, bool predicate, Site site) {
  BallotLane lane{predicate, 0};
  collective(mask, "a vote", run_ballot, &lane, site);
  return lane.result;
}

void ldmatrix_x4(uint32_t (&matrices)[4], const void* row, bool transposed, Site site) {
  check_load(row, 16);
  MatrixLane lane{row, matrices, transposed};
  collective(kFullWarp, "ldmatrix", run_ldmatrix, &lane, site);
}

void mma(Element element, float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site) {
  MmaLane lane{sums, a, b};
  const auto run = element == Element::kTf32       ? run_mma_tf32
                   : element == Element::kBFloat16 ? run_mma_bfloat16
                                                   : run_mma_half;
  collective(kFullWarp, "mma", run, &lane, site);
}

void wgmma(Element element, float* sums, int columns, uint64_t a, uint64_t b, Site site) {
  WgmmaLane lane{element, sums, columns, a, b};
  collective(kFullWarp, "wgmma", run_wgmma, &lane, site);
}
void wgmma_commit(Site site) { collective(kFullWarp, "wgmma_commit", run_wgmma_commit, nullptr, site); }
void wgmma_wait(int groups_left, Site site) { collective(kFullWarp, "wgmma_wait", run_wgmma_wait, &groups_left, site); }

}  // namespace simt
