// An autoregression with sines and cosines of the seasons as further columns, as fourier.rs of the CPU twin has it.

#define HARMONICS 4
#define TAU 6.283185307179586

// Fills the columns of a constant and of the waves, row by row, for all times of the history and the horizon.
__device__ void waves_of(const Task& s, double* waves) {
    for (int t = threadIdx.x; t < s.n + s.horizon; t += THREADS) {
        double* row = waves + (long long)t * s.others;
        row[0] = 1.0;
        for (int i = 0; 1 + 2 * i < s.others; i++) {
            const long long season = i < HARMONICS ? s.main : s.outer, harmonic = i % HARMONICS + 1;
            const double angle = TAU * (double)(harmonic * t % season) / (double)season;
            row[1 + 2 * i] = sin(angle);
            row[2 + 2 * i] = cos(angle);
        }
    }
    __syncthreads();
}

__device__ void fourier(const Task& s, const Work& work) {
    fade_rows(s, work);
    waves_of(s, work.own);
    plain_systems(s, work, s.z, work.own);
    solve_and_roll(s, work, s.z, work.own, threadIdx.x / WARP);
}
