package plugin

import "strings"

// nearest returns the candidate that a word is most likely a misspelling of, "" for none.
func nearest(word string, candidates []string) string {
	const longest = 64 // no key comes near
	if len(word) > longest {
		return ""
	}
	best, least := "", len(word)/3+2
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < least && d <= len(c)/2 {
			best, least = c, d
		}
	}
	return best
}

// distance counts the bytes to insert, remove or replace (Levenshtein) between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
