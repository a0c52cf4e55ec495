# frozen_string_literal: true

RSpec.describe SwarmNative::ExitStatus do
  def status(raw, pid: 42)
    described_class.new(pid, raw)
  end

  # What both classes answer.
  def answers(status)
    names = %i[pid to_i exited? exitstatus signaled? termsig coredump? success? stopped? stopsig to_s]
    names.to_h { |name| [name, status.public_send(name)] }
  end

  ["exit 0", "exit 1", "exit 255", "kill -KILL $$", "kill -TERM $$"].each do |script|
    it "answers like Process::Status after `#{script}`" do
      pid = Process.spawn("/bin/sh", "-c", script)
      _, theirs = Process.wait2(pid)
      ours = status(theirs.to_i, pid: pid)
      expect(answers(ours)).to eq(answers(theirs))
      expect(ours).to eq(theirs)
    end
  end

  it "knows a core dump" do
    expect(status(0x8b)).to have_attributes(termsig: 11, signaled?: true, coredump?: true, exited?: false,
                                            to_s: "pid 42 SIGSEGV (signal 11) (core dumped)")
  end

  it "names a real-time signal by its number" do
    expect(status(40).to_s).to eq("pid 42 signal 40")
  end

  it "is unknown rather than a guess" do
    expect(status(nil)).to have_attributes(unknown?: true, pid: 42, to_i: nil, exited?: false, exitstatus: nil,
                                           signaled?: false, termsig: nil, coredump?: false, success?: nil,
                                           to_s: "pid 42 unknown")
  end

  it "is known otherwise" do
    expect(status(0)).not_to be_unknown
    expect(status(9)).not_to be_unknown
  end

  it "inspects as its words" do
    expect(status(0x300).inspect).to eq("#<SwarmNative::ExitStatus: pid 42 exit 3>")
  end

  it "is equal to another one of the same process and end" do
    expect(status(0x300)).to eq(status(0x300))
    expect(status(nil)).to eq(status(nil))
    expect(status(0x300)).not_to eq(status(0x100))
    expect(status(0x300)).not_to eq(status(0x300, pid: 43))
    expect(status(0x300)).not_to eq(0x300)
    expect([status(9), status(9), status(15)].uniq.size).to eq(2)
  end

  it "is immutable and can be shared between Ractors" do
    expect(status(0)).to be_frozen
    expect(Ractor.shareable?(status(0))).to be(true)
  end

  it "can be matched by patterns" do
    matched = case status(0x300)
              in { exitstatus: 0 } then :success
              in { exitstatus: Integer => code, unknown: false } then code
              end
    expect(matched).to eq(3)
  end
end
