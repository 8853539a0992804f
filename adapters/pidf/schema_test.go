package pidf_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/busylamp/busylamp/adapters/pidf"
)

const schema = "testdata/schema/busylamp.xsd"

// requireXmllint skips a test where there is no xmllint, but lets it fail
// where it has to run: in CI, and where end-to-end tests are asked for.
func requireXmllint(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("xmllint"); err == nil {
		return
	}
	const message = "xmllint is needed to validate documents: apt-get install libxml2-utils"
	if os.Getenv("CI") != "" || os.Getenv("BUSYLAMP_E2E") == "1" {
		t.Fatal(message)
	}
	t.Skip(message)
}

// verdict is what xmllint says of one body.
type verdict struct {
	valid      bool
	complaints []string // one a fault
}

// validate has xmllint judge all bodies at once, since to read the schemas
// takes longer than to read a body.
func validate(t *testing.T, bodies [][]byte) []verdict {
	t.Helper()
	requireXmllint(t)
	args := []string{"--noout", "--nonet", "--schema", schema}
	index := map[string]int{}
	dir := t.TempDir()
	for i, body := range bodies {
		file := filepath.Join(dir, fmt.Sprintf("%d.xml", i))
		if err := os.WriteFile(file, body, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, file)
		index[file] = i
	}
	// The exit status only says that some document is not valid; which ones
	// are is in the output, and a document without a verdict there has failed.
	output, _ := exec.Command("xmllint", args...).CombinedOutput()
	verdicts := make([]verdict, len(bodies))
	for line := range strings.Lines(string(output)) {
		line = strings.TrimSpace(line)
		if i, ok := index[strings.TrimSuffix(line, " validates")]; ok {
			verdicts[i].valid = true
		}
		if file, complaint, ok := strings.Cut(line, ":"); ok && strings.Contains(complaint, " error : ") {
			i, known := index[file]
			if !known {
				t.Fatalf("xmllint: %s", line)
			}
			verdicts[i].complaints = append(verdicts[i].complaints, complaint)
		}
	}
	return verdicts
}

// entities are URIs with what a URI may hold, and with what xs:anyURI takes
// beside that (XML Schema, part 2, section 3.2.17).
var entities = []string{
	"sip:john.doe@example.com",
	"sips:+49-30-1234;phone-context=example.com@example.com:5061;user=phone?x=1&y=2",
	"pres:o'neil&sons@example.com",
	"tel:+49301234",
	"sip:a%20b%C3%A9@example.com",
	"sip:jürgen@bücher.example",
	"sip:\"<john>\"@example.com",
}

// everyDocument returns each activity with each nasty text and each entity,
// in both profiles, with a tuple id that is a name.
func everyDocument() (documents []pidf.Document, bodies [][]byte) {
	for _, a := range activities() {
		for i := range max(len(nasty), len(entities)) {
			text := nasty[i%len(nasty)]
			d := pidf.Document{
				Entity:      entities[i%len(entities)],
				DisplayName: text,
				TupleID:     "t0",
				Activity:    a,
				Note:        text,
			}
			documents = append(documents, d, d)
			bodies = append(bodies, pidf.AudioCodes(d), pidf.RPID(d))
		}
	}
	return documents, bodies
}

func TestDocumentsAreValid(t *testing.T) {
	documents, bodies := everyDocument()
	bodies = append(bodies, pidf.RPID(plain)) // the default tuple id
	documents = append(documents, plain)
	for i, v := range validate(t, bodies) {
		if !v.valid {
			t.Errorf("%+v: %s\n%s", documents[i], strings.Join(v.complaints, "\n"), bodies[i])
		}
	}
}

// TestAudioCodesTupleIDIsTheOneException: "0" is theirs, and the only thing
// that the schemas mind.
func TestAudioCodesTupleIDIsTheOneException(t *testing.T) {
	v := validate(t, [][]byte{pidf.AudioCodes(plain)})[0]
	if v.valid {
		t.Fatal("id=\"0\" is valid; then it needs no exception")
	}
	for _, complaint := range v.complaints {
		if !strings.Contains(complaint, "attribute 'id'") || !strings.Contains(complaint, "'0'") {
			t.Errorf("not about the id: %s", complaint)
		}
	}
}

// TestNastyURIsAndIdsAreWellFormed: what is no URI, or no name, is not valid
// where one is needed, but it must not spoil the document.
func TestNastyURIsAndIdsAreWellFormed(t *testing.T) {
	var bodies [][]byte
	for _, s := range nasty {
		d := pidf.Document{Entity: s, DisplayName: s, TupleID: s, Note: s}
		bodies = append(bodies, pidf.AudioCodes(d), pidf.RPID(d))
	}
	for i, v := range validate(t, bodies) {
		for _, complaint := range v.complaints {
			if !strings.Contains(complaint, "Schemas validity error") {
				t.Errorf("%s\n%q", complaint, bodies[i])
			}
		}
		if !v.valid && len(v.complaints) == 0 {
			t.Errorf("no verdict for\n%q", bodies[i])
		}
	}
}

// TestSchemasHaveTeeth: pidf.xsd takes anything of a namespace whose schema it
// does not know, so prove that each schema is known.
func TestSchemasHaveTeeth(t *testing.T) {
	d := plain
	d.TupleID = "t0"
	audioCodes, rpid := string(pidf.AudioCodes(d)), string(pidf.RPID(d))
	note := `<dm:note>On the phone</dm:note>`
	faults := []struct{ name, document, old, new string }{
		{"pidf", rpid, ">open<", ">ajar<"},
		{"pidf, entity", rpid, " entity=", " identity="},
		{"data-model", rpid, `<dm:person id="t0-p">`, `<dm:person>`},
		{"data-model, order", rpid, `<rpid:activities>`, note + `<rpid:activities>`},
		{"data-model, id twice", rpid, `"t0-p"`, `"t0"`},
		{"rpid", rpid, `<rpid:busy/>`, `<rpid:bored/>`},
		{"rpid, content", rpid, `<rpid:busy/>`, `<rpid:busy>x</rpid:busy>`},
		{"cipid", audioCodes, "John Doe", "<b/>"},
		{"rpid-status", audioCodes, "on-the-phone", "on-the-roof"},
		{"well-formedness", rpid, "</presence>", ""},
	}
	var bodies [][]byte
	for _, f := range faults {
		if !strings.Contains(f.document, f.old) {
			t.Fatalf("%s: no %q in\n%s", f.name, f.old, f.document)
		}
		bodies = append(bodies, []byte(strings.Replace(f.document, f.old, f.new, 1)))
	}
	for i, v := range validate(t, bodies) {
		if v.valid {
			t.Errorf("%s: accepted\n%s", faults[i].name, bodies[i])
		}
	}
}
