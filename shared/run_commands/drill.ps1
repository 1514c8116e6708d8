param([string]$attempt, [string]$action, [string]$instance, [string]$database)
$ErrorActionPreference = 'Stop'
Add-Type -AssemblyName System.Data
$result = [ordered]@{ attempt = $attempt; action = $action; result = 'failed' }
$watch = [Diagnostics.Stopwatch]::StartNew()

function Get-Decoded([string]$text) {
    if ($text -cnotmatch '\A[A-Za-z0-9_-]+\z') { throw 'a parameter is not base64url' }
    $base64 = $text.Replace('-', '+').Replace('_', '/')
    $base64 += '=' * ((4 - $base64.Length % 4) % 4)
    return (New-Object Text.UTF8Encoding($false, $true)).GetString([Convert]::FromBase64String($base64))
}

function New-Command([string]$text) {
    $command = $connection.CreateCommand()
    $command.CommandText = $text
    $command.CommandTimeout = 0
    $command.Parameters.Add('@db', [Data.SqlDbType]::NVarChar, 4000).Value = [string]$name
    return $command
}

function Get-Cause($exception) {
    while ($exception.InnerException -and $exception -isnot [Data.SqlClient.SqlException]) {
        $exception = $exception.InnerException
    }
    return $exception
}

$isThere = @'
IF HAS_PERMS_BY_NAME(NULL, NULL, N'VIEW ANY DATABASE') = 0 THROW 50916, N'this login may not see databases', 1;
SELECT COUNT(*) FROM sys.databases
WHERE database_id > 4 AND name = @db AND name COLLATE Latin1_General_BIN2 = @db COLLATE Latin1_General_BIN2;
'@
$size = 'SELECT SUM(CAST(size AS bigint)) / 128 FROM sys.master_files WHERE database_id = DB_ID(@db);'
$free = @'
SELECT MIN(v.available_bytes) / 1048576 FROM sys.master_files AS f
CROSS APPLY sys.dm_os_volume_stats(f.database_id, f.file_id) AS v WHERE f.database_id = DB_ID(@db) AND f.type = 0;
'@
$check = @'
DECLARE @q nvarchar(258) = QUOTENAME(@db);
IF @q IS NULL THROW 50000, N'the name cannot be quoted', 1;
EXEC (N'DBCC CHECKDB (' + @q + N') WITH NO_INFOMSGS;');
'@
$drop = @'
DECLARE @q nvarchar(258) = QUOTENAME(@db);
IF @q IS NULL THROW 50000, N'the name cannot be quoted', 1;
IF (SELECT state FROM sys.databases WHERE name = @db) = 0
    EXEC (N'ALTER DATABASE ' + @q + N' SET SINGLE_USER WITH ROLLBACK IMMEDIATE;');
EXEC (N'DROP DATABASE ' + @q + N';');
'@

try {
    $name = Get-Decoded $database
    $server = Get-Decoded $instance
    if ($name -cnotmatch '\Adrill_[\s\S]{0,113}_[0-9a-f]{8}\z') {
        throw 'the database is no drill database'
    }
    $builder = New-Object Data.SqlClient.SqlConnectionStringBuilder
    $builder['Data Source'] = if ($server -eq 'MSSQLSERVER') { '.' } else { ".\$server" }
    $builder['Initial Catalog'] = 'master'
    $builder['Integrated Security'] = $true
    $builder['Connect Timeout'] = 30
    $builder['Application Name'] = 'sqlvmbackup drill'
    $connection = New-Object Data.SqlClient.SqlConnection($builder.ConnectionString)
    $connection.Open()
    try {
        if ((New-Command $isThere).ExecuteScalar() -eq 0) {
            $result.result = 'absent'
        } elseif ($action -ceq 'check') {
            try { $result.sizeMB = [long](New-Command $size).ExecuteScalar() } catch { }
            try { $result.freeMB = [long](New-Command $free).ExecuteScalar() } catch { }
            [void](New-Command $check).ExecuteNonQuery()
            $result.result = 'ok'
        } elseif ($action -ceq 'drop') {
            for ($try = 1; $result.result -ne 'ok'; $try++) {
                try {
                    if ((New-Command $isThere).ExecuteScalar() -gt 0) { [void](New-Command $drop).ExecuteNonQuery() }
                    $result.result = 'ok'
                } catch {
                    if ($try -ge 3 -or (Get-Cause $_.Exception).Number -notin 924, 1205, 3702, 5061, 5064) { throw }
                    Start-Sleep -Seconds 5
                }
            }
        } else {
            throw 'the action is neither check nor drop'
        }
    } finally {
        $connection.Close()
    }
} catch {
    $failure = Get-Cause $_.Exception
    $errors = @(if ($failure -is [Data.SqlClient.SqlException]) { $failure.Errors } else { $failure })
    $errors = @($errors | Where-Object { $null -eq $_.Class -or $_.Class -gt 10 })
    $result.errors = $errors.Count
    $result.numbers = @($errors | ForEach-Object { [int]$_.Number } | Select-Object -Unique | Select-Object -First 20)
    $result.messages = @($errors | Select-Object -First 3 | ForEach-Object {
        $_.Message.Substring(0, [Math]::Min(120, $_.Message.Length))
    })
}
$result.seconds = [Math]::Round($watch.Elapsed.TotalSeconds, 1)
$json = ConvertTo-Json $result -Compress
[regex]::Replace($json, '[^\x20-\x7e]', { param($match) '\u{0:x4}' -f [int][char]$match.Value })
