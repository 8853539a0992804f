package pidf_test

// Documents as others write them. Those that are valid by the schemas are tested to be so, that
// they are what the RFCs have and not what we believe of them.

const (
	head = `<?xml version="1.0" encoding="UTF-8"?>` + "\n" +
		`<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model"` +
		` xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid" xmlns:c="urn:ietf:params:xml:ns:pidf:cipid"` +
		` entity="sip:bob@example.com">` + "\n"
	tail      = "\n</presence>\n"
	openTuple = `<tuple id="t1"><status><basic>open</basic></status></tuple>`

	pjsip = head + `<tuple id="pj8f1"><status><basic>open</basic></status></tuple>` +
		`<dm:person id="pjp1"><rpid:activities><rpid:away/></rpid:activities><dm:note>Gone fishing</dm:note></dm:person>` + tail
	baresip = `<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<presence xmlns="urn:ietf:params:xml:ns:pidf"
    xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model"
    xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid"
    entity="sip:bob@example.com">
  <tuple id="t4109">
    <status>
      <basic>open</basic>
    </status>
    <contact>sip:bob@example.com</contact>
  </tuple>
  <dm:person id="p4159"><rpid:activities><rpid:on-the-phone /></rpid:activities></dm:person>
</presence>
`
	baresipOpen = head + `<tuple id="t4109"><status><basic>open</basic></status></tuple>` +
		`<dm:person id="p4159"><rpid:activities/></dm:person>` + tail
	freeSwitch = `<?xml version='1.0' encoding='UTF-8'?>
<presence xmlns='urn:ietf:params:xml:ns:pidf'
xmlns:dm='urn:ietf:params:xml:ns:pidf:data-model'
xmlns:rpid='urn:ietf:params:xml:ns:pidf:rpid'
xmlns:c='urn:ietf:params:xml:ns:pidf:cipid' entity='sip:bob@example.com'>
 <tuple id='t6a5ed77e'>
  <status>
   <basic>open</basic>
  </status>
 </tuple>
 <dm:person id='p06360c4a'>
  <rpid:activities>
   <rpid:busy/>
  </rpid:activities>
  <dm:note>Do Not Disturb</dm:note>
 </dm:person>
</presence>`
	freeSwitchTalk = head + openTuple +
		`<dm:person id="p1"><rpid:activities><rpid:busy/></rpid:activities><dm:note>On The Phone 1001</dm:note></dm:person>` + tail
	bria = head + openTuple +
		`<dm:person id="p1"><rpid:activities><rpid:on-the-phone/></rpid:activities><dm:note>On the Phone</dm:note></dm:person>` + tail
	linphoneDND = head + openTuple +
		`<dm:person id="p1"><rpid:activities><rpid:other>Do not disturb</rpid:other></rpid:activities></dm:person>` + tail
	linphoneBusyDND = head + openTuple +
		`<dm:person id="p1"><rpid:activities><rpid:busy>Do not disturb</rpid:busy></rpid:activities></dm:person>` + tail
	jitsi = `<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:bob@example.com">
<person xmlns="urn:ietf:params:xml:ns:pidf:data-model" id="p2856"><activities xmlns="urn:ietf:params:xml:ns:pidf:rpid"><busy/></activities></person>
<tuple id="t5430"><status><basic>open</basic></status><contact>sip:bob@example.com</contact><note>Busy (DND)</note></tuple>
</presence>`
	// chan_sip, at which res_pjsip's eyeBeam supplement took its model.
	chanSIP = `<?xml version="1.0" encoding="ISO-8859-1"?>
<presence xmlns="urn:ietf:params:xml:ns:pidf"
xmlns:pp="urn:ietf:params:xml:ns:pidf:person"
xmlns:es="urn:ietf:params:xml:ns:pidf:rpid:status:rpid-status"
xmlns:ep="urn:ietf:params:xml:ns:pidf:rpid:rpid-person"
entity="sip:1001@192.0.2.1">
<pp:person><status>
<ep:activities><ep:busy/></ep:activities>
</status></pp:person>
<note>On the phone</note>
<tuple id="1001">
<contact priority="1">sip:1001@192.0.2.1</contact>
<status><basic>closed</basic></status>
</tuple>
</presence>
`
	resPJSIP = `<?xml version="1.0" encoding="UTF-8"?>
<presence entity="sip:1001@192.0.2.1" xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid">
 <note>Ready</note>
 <tuple id="1001">
  <status><basic>open</basic></status>
  <contact priority="1">sip:1001@192.0.2.1:5060</contact>
 </tuple>
 <dm:person />
</presence>
`
	digium = `<?xml version="1.0" encoding="UTF-8"?>
<presence entity="sip:1001@192.0.2.1" xmlns="urn:ietf:params:xml:ns:pidf">
 <tuple id="1001">
  <status><basic>open</basic><digium_presence type="dnd" subtype="Till noon">Writing</digium_presence></status>
 </tuple>
</presence>
`
	cisco = `<?xml version="1.0" encoding="UTF-8"?>
<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:e="urn:ietf:params:xml:ns:pidf:status:rpid" xmlns:ce="urn:cisco:params:xml:ns:pidf:rpid" xmlns:sc="urn:ietf:params:xml:ns:pidf:servcaps" entity="sip:6001@192.0.2.2">
<tuple id="1"><status><basic>open</basic><e:activities><e:on-the-phone/></e:activities></status>
<sc:servcaps><sc:audio>true</sc:audio></sc:servcaps></tuple></presence>`
	ciscoDND = `<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:e="urn:ietf:params:xml:ns:pidf:status:rpid" xmlns:ce="urn:cisco:params:xml:ns:pidf:rpid" entity="sip:6001@192.0.2.2">
<tuple id="1"><status><basic>open</basic><e:activities><e:on-the-phone/><ce:dnd/></e:activities></status></tuple></presence>`
	ciscoAlerting = `<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:e="urn:ietf:params:xml:ns:pidf:status:rpid" xmlns:ce="urn:cisco:params:xml:ns:pidf:rpid" entity="sip:6001@192.0.2.2">
<tuple id="1"><status><basic>open</basic><e:activities><ce:alerting/></e:activities></status></tuple></presence>`
	eyeBeam = head + `<tuple id="t1"><status><basic>open</basic></status><rpid:activities><rpid:busy/></rpid:activities></tuple>` + tail
	zoiper  = head + openTuple + `<dm:person id="p1"><rpid:unknown/></dm:person>` + tail

	// What presence_xml itself says of somebody whom nobody publishes (force_dummy_presence).
	kamailioDummy = `<?xml version="1.0" encoding="UTF-8"?><presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid" xmlns:c="urn:ietf:params:xml:ns:pidf:cipid" entity="sip:bob@example.com"><tuple xmlns="urn:ietf:params:xml:ns:pidf" id="615293b33c62dec073e05d9421e9f48b"><status><basic>open</basic></status></tuple><note xmlns="urn:ietf:params:xml:ns:pidf">Available</note><dm:person xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid" id="1"><rpid:activities/><dm:note>Available</dm:note></dm:person></presence>`

	// RFC 4480 section 4.2's way of writing, shortened.
	rfc4480 = `<?xml version="1.0" encoding="UTF-8"?>
<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model"
  xmlns:lt="urn:ietf:params:xml:ns:location-type" xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid"
  entity="pres:someone@example.com">
  <tuple id="bs35r9">
    <status><basic>open</basic></status>
    <dm:deviceID>urn:device:0003ba4811e3</dm:deviceID>
    <rpid:relationship><rpid:self/></rpid:relationship>
    <rpid:service-class><rpid:electronic/></rpid:service-class>
    <contact priority="0.8">im:someone@mobile.example.net</contact>
    <note xml:lang="en">Don't Disturb Please!</note>
    <timestamp>2005-10-27T16:49:29Z</timestamp>
  </tuple>
  <tuple id="ty4658">
    <status><basic>open</basic></status>
    <rpid:relationship><rpid:assistant/></rpid:relationship>
    <contact priority="1.0">mailto:secretary@example.com</contact>
  </tuple>
  <tuple id="eg92n8">
    <status><basic>closed</basic></status>
    <dm:deviceID>urn:x-mac:0003ba4811e3</dm:deviceID>
    <contact priority="1.0">sip:someone@example.com</contact>
  </tuple>
  <note>I'll be in Tokyo next week</note>
  <dm:person id="p1">
    <rpid:activities from="2005-05-30T12:00:00+05:00" until="2005-05-30T17:00:00+05:00">
      <rpid:note>Far away</rpid:note>
      <rpid:away/>
    </rpid:activities>
    <rpid:mood><rpid:angry/></rpid:mood>
    <dm:note>Scoring 120</dm:note>
    <dm:timestamp>2005-05-30T16:09:44+05:00</dm:timestamp>
  </dm:person>
  <dm:person id="p2">
    <rpid:activities><rpid:vacation/><rpid:presentation/></rpid:activities>
  </dm:person>
</presence>
`
)
