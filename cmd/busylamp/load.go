package main

import (
	"fmt"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
)

// load reads a configuration.
func load(path string, environ []string) (config, error) {
	k := koanf.New(".")
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return config{}, fmt.Errorf("%s: %w", path, err)
	}
	cfg := defaults()
	if err := k.Unmarshal("", &cfg); err != nil {
		return config{}, fmt.Errorf("%s: %w", path, err)
	}
	for i := range cfg.Publishers {
		p := &cfg.Publishers[i]
		if p.Profile == "" {
			p.Profile = defaultProfile
		}
		if p.Expires == 0 {
			p.Expires = defaultExpires
		}
		if p.Timeout == 0 {
			p.Timeout = defaultTimeout
		}
		if p.MaxOutstanding == 0 {
			p.MaxOutstanding = defaultMaxOutstanding
		}
	}
	return cfg, nil
}
