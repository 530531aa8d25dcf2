"""Examples of requests on Graph's pages that several tests send."""

# Graph: the record page of 2018, whose action was `record`.
RECORD_OF_2018 = {
    "bargeInAllowed": True,
    "clientContext": "d45324c1-fcb5-430a-902c-f20af696537c",
    "prompts": [
        {
            "@odata.type": "#microsoft.graph.mediaPrompt",
            "mediaInfo": {
                "uri": "https://cdn.contoso.com/beep.wav",
                "resourceId": "1D6DE2D4-CD51-4309-8DAA-70768651088E",
            },
            "loop": 5,
        }
    ],
    "maxRecordDurationInSeconds": 1800,
    "initialSilenceTimeoutInSeconds": 10,
    "maxSilenceTimeoutInSeconds": 2,
    "recordingFormat": "wav",
    "playBeep": True,
    "streamWhileRecording": True,
    "stopTones": ["#", "11", "*"],
}
