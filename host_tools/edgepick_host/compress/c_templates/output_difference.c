int32_t ${prefix}_difference_${number}(const ${type} *answer, size_t sample) {
  int32_t largest = 0;
  for (size_t i = 0; i < ${tensor}_ELEMENTS; ++i) {
    int32_t difference = (int32_t)answer[i] - (int32_t)${prefix}_golden_output_${number}[sample][i];
    if (difference < 0) difference = -difference;
    if (difference > largest) largest = difference;
  }
  return largest;
}
