package main

// nearestSetting finds the setting whose name is nearest to key.
func nearestSetting(key string) string {
	names := make([]string, len(allSettings))
	for i := range allSettings {
		names[i] = allSettings[i].name
	}
	return nearest(key, names)
}

// nearest finds the name that takes the fewest edits to get to from what was
// typed, for an error that helps. The first of several wins; names is not empty.
func nearest(typed string, names []string) string {
	best, distance := names[0], editDistance(typed, names[0])
	for _, name := range names[1:] {
		if d := editDistance(typed, name); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// editDistance counts the insertions, deletions and replacements of bytes that
// turn a into b (Levenshtein), keeping one row of the table at a time.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
