# frozen_string_literal: true

require "etc"

# What the specs of Pidfd have in common.
module PidfdProcess
  # The kernel keeps the end of a process that others reap since Linux 6.15.
  def keeps_record?
    Gem::Version.new(Etc.uname[:release][/\A\d+\.\d+/]) >= Gem::Version.new("6.15")
  end

  # Runs the code and returns what it has printed, evaluated: it prints by `say value`.
  def said(code, **options)
    result = run_ruby(<<~RUBY, **options)
      # Not by include: a gem that asks whether Something::VERSION is defined would find ours.
      Pidfd, ClosedHandle, ExitStatus = SwarmNative::Pidfd, SwarmNative::ClosedHandle, SwarmNative::ExitStatus
      def say(*values) = values.each { |value| puts value.inspect }
      def sh(script, **options) = Process.spawn("/bin/sh", "-c", script, **options)
      # A process that is no child of this one, and that exits with 5 once its block is over. Its parent reaps it.
      def with_grandchild
        shell = IO.popen(["/bin/sh", "-c", "exec 3<&0; (read line <&3; exit 5) & echo $!; wait"], "r+")
        yield shell.gets.to_i, -> { shell.close_write }
      ensure
        shell.close
      end
      def fds = Dir.children("/proc/self/fd").size
      #{code}
    RUBY
    expect(result).to be_success, result.inspect
    expect(result.err).to eq("")
    result.out.lines(chomp: true)
  end

  # Code that puts a seccomp filter over the process: pidfd_open fails as on a kernel that does not know it.
  def without_pidfd_open
    <<~'RUBY'
      require "fiddle"
      load_nr, ours, refuse, allow = [0x20, 0, 0, 0], [0x15, 0, 1, 434], [0x06, 0, 0, 0x50026], [0x06, 0, 0, 0x7fff0000]
      filter = [load_nr, ours, refuse, allow].map { |instruction| instruction.pack("SCCL") }.join
      program = [4, Fiddle::Pointer[filter].to_i].pack("Sx6J")
      prctl = Fiddle::Function.new(Fiddle.dlopen(nil)["prctl"], [Fiddle::TYPE_LONG] * 5, Fiddle::TYPE_INT)
      prctl.call(38, 1, 0, 0, 0).zero? or raise "no_new_privs"
      prctl.call(22, 2, Fiddle::Pointer[program].to_i, 0, 0).zero? or raise "seccomp"
    RUBY
  end
end
