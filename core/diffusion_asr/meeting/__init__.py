"""Meetings: who said what, in which language."""

from diffusion_asr.meeting.result import MeetingResult, SegmentTrace

__all__ = ["MeetingResult", "SegmentTrace"]
