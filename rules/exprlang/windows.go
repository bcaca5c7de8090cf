package exprlang

type window struct{}
