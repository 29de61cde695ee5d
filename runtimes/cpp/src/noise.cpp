// Noise of a seed, the same float32 bits in every language: plain float64 arithmetic, so it is compiled without contraction.
//
// Philox4x32-10: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
// Normal deviates: Wichura, "Algorithm AS 241", Applied Statistics 37 (1988), PPND16. ln is a series of the atanh, docs/bundle.md.
#include <array>
#include <cmath>

#include "sprint_export/sprint_export.h"

namespace sprint_export {
namespace {

using Words = std::array<std::uint32_t, 4>;

constexpr std::uint64_t MULTIPLIERS[] = {0xD2511F53, 0xCD9E8D57};
constexpr std::uint32_t WEYL[] = {0x9E3779B9, 0xBB67AE85};
constexpr double LN_2 = 0.693147180559945309417232121458176568;
constexpr double ROOT_OF_HALF = 0.707106781186547524400844362104849039;

Words make_words(std::uint64_t seed, std::uint64_t block) {
    auto low = static_cast<std::uint32_t>(seed), high = static_cast<std::uint32_t>(seed >> 32);
    Words words = {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), 0, 0};
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t a = MULTIPLIERS[0] * words[0], b = MULTIPLIERS[1] * words[2];
        words = {static_cast<std::uint32_t>(b >> 32) ^ words[1] ^ low, static_cast<std::uint32_t>(b),
                 static_cast<std::uint32_t>(a >> 32) ^ words[3] ^ high, static_cast<std::uint32_t>(a)};
        low += WEYL[0];
        high += WEYL[1];
    }
    return words;
}

// A polynomial of x, its coefficients from the constant to the highest power.
double evaluate(const double (&coefficients)[8], double x) {
    double sum = coefficients[7];
    for (int i = 6; i >= 0; --i) sum = sum * x + coefficients[i];
    return sum;
}

double natural_logarithm(double x) {
    int exponent = 0;
    double m = std::frexp(x, &exponent);
    if (m < ROOT_OF_HALF) {
        m *= 2;
        --exponent;
    }
    const double f = (m - 1) / (m + 1), square = f * f;
    double sum = 1.0 / 23;
    for (int k = 21; k >= 1; k -= 2) sum = sum * square + 1.0 / k;
    return exponent * LN_2 + 2 * f * sum;
}

double invert_normal(double p) {
    static constexpr double A[] = {3.3871328727963666080,   1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
                                   4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3};
    static constexpr double B[] = {1.0,                     4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
                                   2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3};
    static constexpr double C[] = {1.42343711074968357734,    4.63033784615654529590,    5.76949722146069140550,
                                   3.64784832476320460504,    1.27045825245236838258,    2.41780725177450611770e-1,
                                   2.27238449892691845833e-2, 7.74545014278341407640e-4};
    static constexpr double D[] = {1.0,                       2.05319162663775882187,    1.67638483018380384940,
                                   6.89767334985100004550e-1, 1.48103976427480074590e-1, 1.51986665636164571966e-2,
                                   5.47593808499534494600e-4, 1.05075007164441684324e-9};
    const double q = p - 0.5;
    if (std::fabs(q) <= 0.425) {
        const double r = 0.180625 - q * q;
        return q * evaluate(A, r) / evaluate(B, r);
    }
    // p is never nearer to 0 or 1 than 2^-33: the root is below 5, and the third region of AS 241 is never reached.
    const double r = std::sqrt(-natural_logarithm(q < 0 ? p : 1 - p)) - 1.6;
    const double deviate = evaluate(C, r) / evaluate(D, r);
    return q < 0 ? -deviate : deviate;
}

}  // namespace

std::vector<float> make_noise(std::uint64_t seed, std::size_t count, std::uint64_t first) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count;) {
        const std::uint64_t place = first + i;
        const Words words = make_words(seed, place / 4);
        for (std::size_t word = place % 4; word < 4 && i < count; ++word, ++i)
            values[i] = static_cast<float>(invert_normal((words[word] + 0.5) / 4294967296.0));
    }
    return values;
}

}  // namespace sprint_export
