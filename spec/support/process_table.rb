# frozen_string_literal: true

# The processes that one example has started, as /proc shows them.
#
# A process belongs to the example when it is in the example's process group, or when it has left the group but still
# carries the mark: the example's scratch folder in its environment or as its working directory.
class ProcessTable
  Entry = Struct.new(:pid, :parent, :group, :state, :command) do
    # A zombie does nothing any more; whether its parent reaps it is the parent's matter.
    def alive?
      !"ZX".include?(state)
    end

    def to_s
      "pid #{pid} (parent #{parent}, group #{group}, state #{state}): #{command}"
    end
  end

  def initialize(group, scratch)
    @group = group
    @mark = /#{Regexp.escape(scratch)}(?=[\0\/]|\z)/n
  end

  # @return [Array<Entry>] zombies left out
  def alive
    Dir.children("/proc").grep(/\A\d+\z/).map(&:to_i).filter_map { |pid| entry(pid) }
  end

  # Kills until none is left: a process may fork while the others are being killed.
  def kill_all(deadline = 10)
    due = now + deadline
    until (left = alive).empty?
      left.each { |entry| kill(entry.pid) }
      raise "these could not be killed:\n#{left.join("\n")}" if now > due

      sleep 0.005
    end
  end

  # What the kernel knows of each thread of a process; it needs no cooperation of a process that hangs with the GVL.
  def kernel_view(pid)
    Dir.children("/proc/#{pid}/task").sort_by(&:to_i).map do |tid|
      task = "/proc/#{pid}/task/#{tid}"
      state = read("#{task}/status")[/^State:\s*(.*)/, 1]
      # A thread may have any bytes for a name.
      name = read("#{task}/comm").force_encoding(Encoding::UTF_8).scrub.strip
      line = "  thread #{tid} #{name}: #{state}, waits in #{read("#{task}/wchan").strip}, " \
             "system call #{read("#{task}/syscall").split.first}"
      [line, *read("#{task}/stack").lines.map { |frame| "    #{frame.strip}" }].join("\n")
    end.join("\n")
  rescue Errno::ENOENT, Errno::ESRCH
    "  (it has ended)"
  end

  def catches?(pid, signal)
    read("/proc/#{pid}/status")[/^SigCgt:\s*(\h+)/, 1].to_s.hex[signal - 1] == 1
  end

  private

  def entry(pid)
    stat = read("/proc/#{pid}/stat")
    return if stat.empty?

    # The name stands in brackets and may hold anything, brackets and spaces too.
    name = stat[/\((.*)\)/m, 1]
    state, parent, group = stat[(stat.rindex(")") + 2)..].split
    return unless group.to_i == @group || marked?(pid)

    command = read("/proc/#{pid}/cmdline").tr("\0", " ").strip
    found = Entry.new(pid, parent.to_i, group.to_i, state, command.empty? ? "[#{name}]" : command)
    found if found.alive?
  end

  def marked?(pid)
    return false if pid == Process.pid

    File.readlink("/proc/#{pid}/cwd").b.match?(@mark) || read("/proc/#{pid}/environ").match?(@mark)
  rescue SystemCallError
    false
  end

  def kill(pid)
    Process.kill(:KILL, pid)
  rescue Errno::ESRCH
    # It ended by itself.
  end

  # Empty for what has ended, what root alone may read and what this kernel does not have.
  def read(path)
    File.binread(path)
  rescue SystemCallError
    ""
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end
end
