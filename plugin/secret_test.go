package plugin

import (
	"errors"
	"strings"
	"testing"
)

type secretive struct {
	Accounts []struct {
		User     string `yaml:"user"`
		Password string `yaml:"password"`
		Pin      string `yaml:"pin"`
	} `yaml:"accounts"`
	Headers map[string]string `yaml:"headers"`
	Codes   [][]string        `yaml:"codes"`
	Token   string            `yaml:"access_token_v2"`
	Door    vault             `yaml:"door"`
	Vault   vault             `yaml:"vault"`
	Port    uint16            `yaml:"port"`
}

// vault reads itself, and says what it read.
type vault struct{}

func (*vault) UnmarshalText(b []byte) error { return errors.New("not open to " + string(b)) }

// TestDecodeHidesSecrets: no wrong value of a secret is shown, however deep it stands, and
// whether it was described or only is called so; any other is.
func TestDecodeHidesSecrets(t *testing.T) {
	keys := []Key{{Name: "accounts.pin", Secret: true}, {Name: "headers", Secret: true}, {Name: "codes", Secret: true},
		{Name: "vault.code", Secret: true}, {Name: "port"}}
	for _, c := range []struct{ json, key string }{
		{`{"accounts":[{"password":471100}]}`, "accounts[0].password"},
		{`{"accounts":[{"user":"a"},{"pin":471100}]}`, "accounts[1].pin"},
		{`{"accounts":["471100"]}`, "accounts[0]"},
		{`{"accounts":"471100"}`, "accounts"},
		{`{"headers":{"Authorization":471100}}`, "headers.Authorization"},
		{`{"headers":{"X.Key":471100}}`, "headers.X.Key"},
		{`{"codes":[["a",471100]]}`, "codes[0][1]"},
		{`{"access_token_v2":471100}`, "access_token_v2"},
		{`{"vault":"471100"}`, "vault"},
	} {
		problems := asProblems(Config{json: []byte(c.json), keys: keys}.Decode(&secretive{}))
		if len(problems) != 1 || problems[0].Key != c.key || strings.Contains(problems[0].Text, "4711") {
			t.Errorf("%s: %v, want one of %s that shows no value", c.json, problems, c.key)
		}
	}
	for _, json := range []string{`{"accounts":[{"user":471100}]}`, `{"port":471100}`, `{"door":"471100"}`} {
		if err := (Config{json: []byte(json), keys: keys}).Decode(&secretive{}); err == nil || !strings.Contains(err.Error(), "471100") {
			t.Errorf("%s: %v, want the value shown", json, err)
		}
	}
}
